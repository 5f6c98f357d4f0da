"""Measures how real images look: by the generator's discriminator, and by the distance of their features to photos."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from saliency_gan.dissection.interventions import Effect
from saliency_gan.errors import UserError, reason_of
from saliency_gan.generators.discriminators import Critic, read_discriminator
from saliency_gan.generators.training_images import read_squares
from saliency_gan.generators.zoo import is_bundled
from saliency_gan.images import ImageArray
from saliency_gan.images.folders import find_images
from saliency_gan.images.tensors import to_signed, to_uint8
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.storage.bundled import bundled_folder
from saliency_gan.storage.torch_files import load_torch

Realism = Callable[[Tensor, Tensor], Tensor]
"""Images [N, channels, H, W] in [-1, 1] and classes int64 [N] -> how real each is, float [N], with a gradient."""

MAX_PHOTOS = 2048
PIXELS_AT_ONCE = 2**20
"""Pixels of the images whose features are computed at once."""
DISCRIMINATOR = "discriminator.safetensors"
CPU = torch.device("cpu")


def find_discriminator(generator: str, weights: Path | None, device: torch.device = CPU) -> Critic | None:
    """Reads the discriminator that a generator was trained against, from the same folder; None if there is none.

    Raises:
        UserError: If the file is damaged.
    """
    place = bundled_folder(generator) if weights is None and is_bundled(generator) else weights or Path(generator)
    path = (place if place.is_dir() else place.parent) / DISCRIMINATOR
    return read_discriminator(path).to(device) if path.is_file() else None


def read_photos(folder: Path, side: int) -> ImageArray:
    """Reads real images for a generator of `side` pixels, uint8 [N, side, side, 3].

    At most MAX_PHOTOS are read, at equal distances from the sorted files of the folder and its subfolders.

    Raises:
        UserError: If fewer than two images can be read.
    """
    files = find_images(folder, recursive=True, setting="--real")
    chosen = (
        [files[index * len(files) // MAX_PHOTOS] for index in range(MAX_PHOTOS)] if len(files) > MAX_PHOTOS else files
    )
    squares = [square for square in read_squares(chosen, side) if isinstance(square, np.ndarray)]
    if len(squares) < 2:
        raise UserError(f"{folder} holds {len(squares)} readable images, but a distance needs 2 or more, better 1,000.")
    return np.stack(squares)


class FeatureDistance:
    """Squared maximum mean discrepancy between images and photos, as in KID (Binkowski et al., ICLR 2018).

    The kernel is KID's, (x y / d + 1)^3. The estimator is KID's as well. It is unbiased, so it does not need large sets
    as a Frechet distance does. The features are not Inception's but those of a saliency model's encoder: mean and
    standard deviation over the positions of every channel of its maps from 1/4 of the side on (1/4, 1/8, 1/16 and
    1/32), each scaled to a standard deviation of 1 over the photos. So the values are not KIDs, and can only be
    compared with each other.

    Args:
        model: A saliency model, on the device where features are computed.
        photos: Real images, uint8 [M, H, W, 3], M >= 2.
    """

    def __init__(self, model: SaliencyModel, photos: ImageArray) -> None:
        self.model = model
        self.mean, self.deviation = torch.zeros(()), torch.ones(())
        count = _at_once(photos.shape[1])
        parts = (photos[start : start + count] for start in range(0, len(photos), count))
        features = self._features_of(to_signed(part, model.mean.device) for part in parts)
        self.mean, self.deviation = features.mean(0), features.std(0).clamp(min=1e-6)
        self.photos = (features - self.mean) / self.deviation
        own, count = _kernel(self.photos, self.photos).cpu().double(), len(photos)
        self._among_photos = float(own.sum() - own.trace()) / (count * (count - 1))

    def features(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W] -> float [N, d]; gradients reach the images."""
        colour = images.float().expand(-1, 3, -1, -1)
        encoder: nn.Module = self.model.network.encoder  # type: ignore[assignment]
        stages = encoder((colour - self.model.mean) / self.model.std)[2:]
        parts = [part for stage in stages for part in (stage.mean((2, 3)), _deviation(stage))]
        return (torch.cat(parts, 1) - self.mean) / self.deviation

    def distance(self, images: Tensor) -> float:
        """Squared MMD between images and the photos; near 0, or slightly below, if both are of the same kind."""
        weights = torch.ones(1, len(images), dtype=torch.float64)
        return float(self._estimate(self._all_features(images), weights))

    def decrease_from(self, before: Tensor) -> Callable[[Tensor], Effect]:
        """Measures edits of the same images.

        Args:
            before: Images, float [N, channels, H, W].

        Returns:
            A function of these images after an edit, of the same shape. It returns how much the distance to the photos
            decreased, with an interval over the images (Poisson bootstrap).
        """
        weights = torch.poisson(torch.ones(1000, len(before)), generator=torch.Generator().manual_seed(0)).double()
        weights = torch.cat([torch.ones(1, len(before), dtype=torch.float64), weights])
        first = self._estimate(self._all_features(before), weights)

        def decrease(after: Tensor) -> Effect:
            change = first - self._estimate(self._all_features(after), weights)
            low, high = change[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
            return Effect(float(change[0]), low, high, change[:1])

        return decrease

    def witness(self, generated: Tensor) -> Realism:
        """A score that is high for images nearer to the photos than to `generated`.

        It is mean k(x, photos) - mean k(x, generated), the witness function of the discrepancy (Gretton et al., JMLR
        2012). So its gradient says how an image has to change to make the distance smaller.
        """
        known = self._all_features(generated)

        def realism(images: Tensor, _: Tensor) -> Tensor:
            features = self.features(images)
            return _kernel(features, self.photos).mean(1) - _kernel(features, known).mean(1)

        return realism

    def _all_features(self, images: Tensor) -> Tensor:
        return self._features_of(images.split(_at_once(images.shape[-1])))

    @torch.no_grad()
    def _features_of(self, parts: Iterable[Tensor]) -> Tensor:
        return torch.cat([self.features(part) for part in parts])

    def _estimate(self, features: Tensor, weights: Tensor) -> Tensor:
        """The unbiased estimate of the distance for every row of image weights, float64 [rows]."""
        own, cross = _kernel(features, features).cpu().double(), _kernel(features, self.photos).cpu().double()
        total, squares = weights.sum(1), weights.square()
        pairs = (total.square() - squares.sum(1)).clamp(min=1)
        among_images = ((weights @ own * weights).sum(1) - squares @ own.diag()) / pairs
        return self._among_photos + among_images - 2 * weights @ cross.mean(1) / total.clamp(min=1)


def frechet_inception_distance(photos: ImageArray, images: Tensor, weights: Path) -> float:
    """FID by torch-fidelity, with Inception weights that the user provides.

    Args:
        photos: Photos, uint8 [M, H, W, 3].
        images: Images, float [N, channels, H, W] in [-1, 1].
        weights: Inception's state dict; torch-fidelity says where it is published. It is read here without executing
            pickled code, and passed on as tensors.

    Raises:
        UserError: If torch-fidelity is missing or the weights cannot be used.
    """
    fidelity = require_fidelity()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(load_torch(weights), path)
        try:
            found = fidelity.calculate_metrics(
                input1=_Pictures(to_uint8(images)),
                input2=_Pictures(photos),
                fid=True,
                cuda=False,
                cache=False,
                verbose=False,
                save_cpu_ram=True,
                batch_size=32,
                feature_extractor_weights_path=str(path),
            )
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"{weights} does not hold torch-fidelity's Inception weights ({reason_of(error)})."
            ) from None
    return float(found["frechet_inception_distance"])


class _Fidelity(Protocol):
    def calculate_metrics(self, **settings: object) -> dict[str, float]: ...


def require_fidelity() -> _Fidelity:
    """The package torch_fidelity.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import torch_fidelity
    except ModuleNotFoundError:
        raise UserError("FID needs the package torch-fidelity: pip install 'saliency-gan[fid]'.") from None
    return torch_fidelity


class _Pictures(Dataset[Tensor]):
    """Images, uint8 [N, H, W, 3], as uint8 [3, H, W] each, the format of torch-fidelity."""

    def __init__(self, images: ImageArray) -> None:
        self.pictures = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        return self.pictures[index]


def _at_once(side: int) -> int:
    """Number of square images whose features are computed at once."""
    return max(1, PIXELS_AT_ONCE // side**2)


def _deviation(stage: Tensor) -> Tensor:
    """Standard deviation of every channel over the positions; 1e-6 keeps the gradient of constant channels finite."""
    return (stage.var((2, 3), correction=0) + 1e-6).sqrt()


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.T / one.shape[1] + 1) ** 3
