"""How far generated images are from photos, by the features of a network that no training of ours has seen."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from saliency_gan.encoders.frozen import FrozenEncoder

ENCODER = "tu-tf_efficientnet_lite2"
"""Not the network of the projected discriminator, which would judge itself."""
SIDE = 128
NEIGHBOURS = 5
"""k of density and coverage, as in their paper."""

Features = NDArray[np.float64]
"""[N, d], one row for each image."""


@dataclass(frozen=True)
class Distance:
    """What `measure_distance` found.

    Attributes:
        frechet: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of the features' means and covariances (Heusel et al. 2017); 0
            for the same images. The features are not Inception's, so it compares with no published FID.
        low: Lower end of its 95 % interval over the generated images, by bootstrap.
        high: Upper end.
        precision: Share of the generated images that lie as near to a photo as its k-th neighbour among the photos.
        density: How many photos' neighbourhoods a generated image lies in, as a multiple of what photos would
            (Naeem et al. 2020); low where images look like no photo.
        coverage: Share of the photos with a generated image in their neighbourhood; low where only some are drawn.
        memorised: Share of the generated images that lie nearer to a photo than half of that photo's distance to its
            nearest other photo; high where training images are drawn again.
        generated: Number of generated images.
        photos: Number of photos.
    """

    frechet: float
    low: float
    high: float
    precision: float
    density: float
    coverage: float
    memorised: float
    generated: int
    photos: int

    def to_plain(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


@torch.no_grad()
def image_features(encoder: FrozenEncoder, batches: Iterable[Tensor]) -> Features:
    """Means over the positions of the coarsest map, of batches of images [N, C, H, W] in [-1, 1]."""
    return np.concatenate([encoder(batch)[-1].float().mean(dim=(2, 3)).double().cpu().numpy() for batch in batches])


def measure_distance(generated: Features, photos: Features, resamples: int = 20, seed: int = 0) -> Distance:
    """Compares the features of generated images [N, d] with those of photos [M, d]; N and M should exceed d by far."""
    random = np.random.default_rng(seed)
    target = _moments(photos)
    drawn = (generated[random.integers(0, len(generated), len(generated))] for _ in range(resamples))
    spread = float(np.std([_frechet(_moments(one), target) for one in drawn]))
    frechet = _frechet(_moments(generated), target)
    among = cdist(photos, photos)
    np.fill_diagonal(among, np.inf)
    radii = np.partition(among, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
    nearest = among.min(axis=1)
    across = cdist(generated, photos)
    inside = across < radii
    return Distance(
        frechet=frechet,
        low=frechet - 1.96 * spread,
        high=frechet + 1.96 * spread,
        precision=float(inside.any(axis=1).mean()),
        density=float(inside.sum(axis=1).mean() / NEIGHBOURS),
        coverage=float(inside.any(axis=0).mean()),
        memorised=float((across.min(axis=1) < nearest[across.argmin(axis=1)] / 2).mean()),
        generated=len(generated),
        photos=len(photos),
    )


def _moments(features: Features) -> tuple[Features, Features]:
    return features.mean(axis=0), np.cov(features, rowvar=False).astype(np.float64)


def _frechet(one: tuple[Features, Features], other: tuple[Features, Features]) -> float:
    # tr (C C')^(1/2) is the sum of the roots of the eigenvalues of C C', which are real and not negative.
    eigenvalues = np.linalg.eigvals(one[1] @ other[1]).real.clip(min=0)
    trace = np.trace(one[1]) + np.trace(other[1]) - 2 * np.sqrt(eigenvalues).sum()
    return float(((one[0] - other[0]) ** 2).sum() + trace)
