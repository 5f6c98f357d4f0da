"""Pairs of images that A and R are trained and tested on: G(z, c) and G(z + A (eps e_k), c)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_gan.directions.deformator import Deformator
from saliency_gan.generators.base import Generator


@dataclass(frozen=True)
class ShiftSample:
    """N samples of the inputs that define a pair of images.

    Attributes:
        latents: z, float [N, latent_dim].
        classes: c, int64 [N]; both images of a pair have the same class, so they differ only by the shift.
        directions: k, int64 [N].
        shifts: eps, float [N].
    """

    latents: Tensor
    classes: Tensor
    directions: Tensor
    shifts: Tensor

    def part(self, numbers: range) -> "ShiftSample":
        """Returns the samples with these numbers, see `processes.own_parts`."""
        some = slice(numbers.start, numbers.stop)
        return ShiftSample(self.latents[some], self.classes[some], self.directions[some], self.shifts[some])


@dataclass(frozen=True)
class ShiftSampler:
    """Draws (z, c, k, eps) as in Voynov & Babenko 2020, section 3.2, with a class for every sample.

    k is uniform over the directions. eps is uniform in [-max_shift, max_shift]; then |eps| is raised to at least
    min_shift, and the sign is kept.

    Attributes:
        generator: G, which z and c are drawn for.
        among: Classes to draw from; None for all.
        directions: K.
        max_shift: Largest |eps|, in units of a direction's length.
        min_shift: Smallest |eps|.
        device: Device that samples are moved to. They are drawn on the CPU, so a seed gives the same ones everywhere.
    """

    generator: Generator
    among: Sequence[int] | None
    directions: int
    max_shift: float
    min_shift: float
    device: torch.device

    def draw(self, count: int, random: torch.Generator) -> ShiftSample:
        """Draws `count` samples."""
        latents, classes = self.generator.sample(count, random, self.among)
        directions = torch.randint(self.directions, (count,), generator=random)
        shifts = self.max_shift * (2 * torch.rand(count, generator=random) - 1)
        shifts = torch.copysign(shifts.abs().clamp(min=self.min_shift), shifts)
        return ShiftSample(*(drawn.to(self.device) for drawn in (latents, classes, directions, shifts)))


def draw_both(generator: Generator, deformator: Deformator, sample: ShiftSample) -> tuple[Tensor, Tensor]:
    """Draws both images of every pair, each float [N, channels, H, W] in [-1, 1].

    The first image has no graph, because A does not change it. The second has gradients only to A, because G is frozen.
    """
    with torch.no_grad():
        originals = generator(sample.latents, sample.classes)
    shifted = generator(sample.latents + deformator(sample.directions, sample.shifts), sample.classes)
    return originals, shifted
