"""Images of a generator together with the features of its layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_gan.generators.base import Generator
from saliency_gan.generators.units import watched
from saliency_gan.runs.random_streams import Stream

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BATCH = 32
"""Images at once at 64 px and below; fewer at larger sizes, because the features of all layers are kept."""


def images_at_once(generator: Generator) -> int:
    """Number of images that are drawn at once."""
    return max(1, min(BATCH, BATCH * 64**2 // generator.resolution**2))


@dataclass(frozen=True)
class Seen:
    """A batch of images and features.

    Attributes:
        first: Number of the first image.
        images: float32 [N, channels, H, W] in [-1, 1].
        features: Layer -> float32 [N, units, h, w].
    """

    first: int
    images: Tensor
    features: dict[str, Tensor]


@dataclass(frozen=True)
class Sampler:
    """Draws images by number; the same number gives the same image at every call.

    Attributes:
        generator: G, frozen, on fabric's device.
        layers: Layers whose features are kept.
        fabric: Sets the device and the precision.
        seed: Random seed of the images.
        among: Classes to draw from; None for all.
    """

    generator: Generator
    layers: Sequence[str]
    fabric: "Fabric"
    seed: int
    among: Sequence[int] | None

    def subjects(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """z, float [N, latent_dim], and c, int64 [N], on fabric's device."""
        latents, classes = self.generator.sample_each(numbers, (self.seed, Stream.DISSECTION), self.among)
        return latents.to(self.fabric.device), classes.to(self.fabric.device)

    @torch.no_grad()
    def draw(self, numbers: Sequence[int]) -> Seen:
        """Draws one batch."""
        with watched(self.generator, self.layers) as features, self.fabric.autocast():
            images = self.generator(*self.subjects(numbers)).float()
        return Seen(numbers[0], images, features)

    @property
    def batch(self) -> int:
        """Number of images that are drawn at once."""
        return images_at_once(self.generator)

    def batches(self, first: int, count: int, progress: str) -> Iterator[Seen]:
        """Draws the images `first` to `first + count - 1` in batches."""
        with tqdm(desc=progress, total=count, unit="image") as bar:
            for start in range(first, first + count, self.batch):
                numbers = range(start, min(start + self.batch, first + count))
                yield self.draw(numbers)
                bar.update(len(numbers))
