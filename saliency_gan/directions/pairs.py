"""What A and R are trained and tested on: G(z, c) beside G(z + A (eps e_k), c)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_gan.directions.deformator import Deformator
from saliency_gan.generators.base import Generator


@dataclass(frozen=True)
class PairSample:
    """N draws of everything that decides a pair of images.

    Attributes:
        latents: z, float [N, latent_dim].
        classes: c, int64 [N]; one class a pair, shared by both images, so that nothing but the shift tells them apart.
        directions: k, int64 [N].
        shifts: eps, float [N].
    """

    latents: Tensor
    classes: Tensor
    directions: Tensor
    shifts: Tensor

    def part(self, numbers: range) -> "PairSample":
        """Some of the draws, as `devices.own_parts` numbers them."""
        some = slice(numbers.start, numbers.stop)
        return PairSample(self.latents[some], self.classes[some], self.directions[some], self.shifts[some])


@dataclass(frozen=True)
class PairSampler:
    """Draws (z, c, k, eps) as Voynov & Babenko 2020, section 3.2, with a class for every sample.

    k is uniform over the directions; eps is uniform in [-max_shift, max_shift], then |eps| is raised to min_shift with
    its sign kept.

    Attributes:
        generator: Where z and c belong.
        among: Classes to draw from; None for all.
        directions: K.
        max_shift: Largest |eps|, in units of a direction's length.
        min_shift: Smallest |eps|.
        device: Where the draws are put; they are drawn on the CPU, so that a seed means the same everywhere.
    """

    generator: Generator
    among: Sequence[int] | None
    directions: int
    max_shift: float
    min_shift: float
    device: torch.device

    def draw(self, count: int, random: torch.Generator) -> PairSample:
        """Draws `count` samples."""
        latents, classes = self.generator.sample(count, random, self.among)
        directions = torch.randint(self.directions, (count,), generator=random)
        shifts = self.max_shift * (2 * torch.rand(count, generator=random) - 1)
        shifts = torch.copysign(shifts.abs().clamp(min=self.min_shift), shifts)
        return PairSample(*(drawn.to(self.device) for drawn in (latents, classes, directions, shifts)))


def draw_pairs(generator: Generator, deformator: Deformator, sample: PairSample) -> tuple[Tensor, Tensor]:
    """Draws both images of every pair, each float [N, channels, H, W] in [-1, 1].

    The first has no graph, for A does not act on it. The second carries gradients to A alone, for G is frozen.
    """
    with torch.no_grad():
        originals = generator(sample.latents, sample.classes)
    shifted = generator(sample.latents + deformator(sample.directions, sample.shifts), sample.classes)
    return originals, shifted
