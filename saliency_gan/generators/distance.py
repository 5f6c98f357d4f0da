"""Measures how far generated images are from photos, with a network that no generator is trained with."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from saliency_gan.encoders.frozen import FrozenEncoder
from saliency_gan.generators.base import Generator
from saliency_gan.generators.training_images import TrainingImages
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_signed, to_uint8
from saliency_gan.runs.random_streams import random_stream

ENCODER = "tu-tf_efficientnet_lite2"
"""This is not the network of the projected discriminator, which would favour generators trained with it."""
SIDE = 128
"""Side in pixels to which images are resized for the encoder."""
NEIGHBOURS = 5
"""k of precision, density and coverage, as in Naeem et al."""
RESAMPLES = 20
MAX_PHOTOS = 10_000
BATCH = 64
SHOWN = 16
"""Number of generated images that are shown with their nearest photos."""

Features = NDArray[np.float64]
"""[N, d], one row for each image."""


@dataclass(frozen=True)
class Distance:
    """What `compare` found.

    Attributes:
        frechet: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of the features' means and covariances (Heusel et al. 2017); 0
            for the same images. The features are not Inception's, so it cannot be compared with a published FID.
        low: Lower end of its 95 % interval over the generated images, by bootstrap.
        high: Upper end.
        precision: Share of the generated images that lie in the neighbourhood of a photo. The neighbourhood of a photo
            reaches to its k-th nearest photo.
        density: Mean number of neighbourhoods that a generated image lies in, divided by k (Naeem et al. 2020). It is
            near 1 for photos, and low for images that look like no photo.
        coverage: Share of the photos with a generated image in their neighbourhood; low after mode collapse.
        copies: Share of the generated images with a distance to their nearest photo below half of that photo's distance
            to the nearest photo that differs from it; high where the generator copies training images. If there were
            more than MAX_PHOTOS photos, copies of those that were left out are not found.
        generated: Number of generated images.
        photos: Number of photos.
    """

    frechet: float
    low: float
    high: float
    precision: float
    density: float
    coverage: float
    copies: float
    generated: int
    photos: int

    def describe(self) -> str:
        """Returns one sentence with the main values."""
        return (
            f"distance to {self.photos} photos: {self.frechet:.1f} ({self.low:.1f} to {self.high:.1f}), precision"
            f" {self.precision:.3f}, density {self.density:.3f}, coverage {self.coverage:.3f}, copies {self.copies:.3f}"
        )


@torch.no_grad()
def measure_generator(
    generator: Generator, data: TrainingImages, count: int, device: torch.device, seed: int
) -> tuple[Distance, ImageArray]:
    """Compares images of a generator with its training images. Classes are as frequent as in the training images.

    Args:
        generator: On `device`, in evaluation mode.
        data: The photos. If there are more than MAX_PHOTOS, a random subset of this size is used.
        count: Number of images to generate, 2 or more; a useful interval needs thousands.
        device: Where to compute.
        seed: Random seed.

    Returns:
        The distance, and a picture uint8 [H, W, C] with one column for each of SHOWN generated images: the image on
        top, and below it the three nearest photos.

    Raises:
        UserError: If the package of the encoder is missing.
    """
    encoder = FrozenEncoder(ENCODER, SIDE).to(device)
    random = random_stream(seed)
    latents = generator.sample_latents(count, random)
    classes = data.labels[torch.randint(len(data.labels), (count,), generator=random)]
    kept = torch.randperm(len(data.labels), generator=random)[:MAX_PHOTOS].numpy()
    shown: list[Tensor] = []

    def drawn() -> Iterator[Tensor]:
        for start in range(0, count, BATCH):
            part = slice(start, start + BATCH)
            images = generator(latents[part].to(device), classes[part].to(device))
            if start < SHOWN:
                shown.append(images.cpu())
            yield images

    def photos() -> Iterator[Tensor]:
        for start in range(0, len(kept), BATCH):
            yield to_signed(data.images[kept[start : start + BATCH]], device)

    with tqdm(desc="measuring", total=count + len(kept), unit="image", leave=False) as progress:
        generated = _features(encoder, drawn(), progress)
        real = _features(encoder, photos(), progress)
    few = to_uint8(torch.cat(shown)[:SHOWN])
    nearest = _distances(generated[: len(few)], real).argsort(axis=1)[:, :3].T
    rows = [few, *(np.broadcast_to(data.images[kept[row]], few.shape) for row in nearest)]  # grey photos as colour
    picture = grid(np.concatenate(rows), len(few))
    return compare(generated, real), picture


def _features(encoder: FrozenEncoder, batches: Iterable[Tensor], progress: "tqdm[Any]") -> Features:
    """Returns the coarsest feature map of each image, averaged over the positions."""
    found = []
    for batch in batches:
        found.append(encoder(batch)[-1].float().mean(dim=(2, 3)).cpu().double().numpy())
        progress.update(len(batch))
    return np.concatenate(found)


def compare(generated: Features, photos: Features) -> Distance:
    """Compares features of generated images [N, d] with those of photos [M, d]; N and M should be far above d."""
    random = np.random.default_rng(0)
    frechet_of = _frechet_from(photos)
    drawn = (generated[random.integers(0, len(generated), len(generated))] for _ in range(RESAMPLES))
    spread = float(np.std([frechet_of(one) for one in drawn]))
    frechet = frechet_of(generated)
    among = _distances(photos, photos)
    np.fill_diagonal(among, np.inf)
    neighbours = min(NEIGHBOURS, len(photos) - 1)
    among.partition(neighbours - 1, axis=1)
    radii = among[:, neighbours - 1].copy()
    # A copy of the same photo, whose features may differ by rounding, is no other photo.
    nearest = among.min(axis=1, initial=np.inf, where=among > 1e-3 * radii[:, None])
    del among  # as large as `across`
    across = _distances(generated, photos)
    inside = across < radii
    return Distance(
        frechet=frechet,
        low=frechet - 1.96 * spread,
        high=frechet + 1.96 * spread,
        precision=float(inside.any(axis=1).mean()),
        density=float(inside.sum(axis=1).mean() / neighbours),
        coverage=float(inside.any(axis=0).mean()),
        copies=float((across.min(axis=1) < nearest[across.argmin(axis=1)] / 2).mean()),
        generated=len(generated),
        photos=len(photos),
    )


def _frechet_from(photos: Features) -> Callable[[Features], float]:
    """Returns a function that computes the Frechet distance of other features from those of `photos`."""
    mean, covariance = _moments(photos)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(min=0))

    def frechet(features: Features) -> float:
        other_mean, other = _moments(features)
        # tr (C C')^(1/2) is the sum of the roots of the eigenvalues of R^T C' R for any R with R R^T = C.
        shared = np.sqrt(np.linalg.eigvalsh(root.T @ other @ root).clip(min=0)).sum()
        return float(((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other) - 2 * shared)

    return frechet


def _moments(features: Features) -> tuple[Features, Features]:
    return features.mean(axis=0), np.cov(features, rowvar=False, dtype=np.float64)


def _distances(ones: Features, others: Features) -> Features:
    """Returns the Euclidean distance of each of `ones` [N, d] from each of `others` [M, d], as [N, M]."""
    mode = "use_mm_for_euclid_dist"  # much faster; in double precision the rounding is below what matters here
    return torch.cdist(torch.from_numpy(ones), torch.from_numpy(others), compute_mode=mode).numpy()
