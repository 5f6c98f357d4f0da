"""Finds h_bg by gradient descent instead of by discovery, after Melas-Kyriazi et al. 2022."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from saliency_gan.compute.processes import own_parts
from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.criteria import border, centre, gradient_magnitude
from saliency_gan.generators.base import Generator
from saliency_gan.images.brightness import Polarity, brightness
from saliency_gan.runs.random_streams import Stream, random_stream

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EDGE_WEIGHT = 5.0
LEARNING_RATE = 0.02


def optimise_direction(
    config: DiscoverConfig, generator: Generator, polarity: Polarity, among: Sequence[int] | None, fabric: "Fabric"
) -> Tensor:
    """Searches for the unit vector h whose shift clears the background and keeps the object's edges.

    Minimises (1 - border) + (centre - border) + 5 x edges lost in the centre, with new (z, c) in every iteration and
    the magnitudes of `background_shifts` in turn. Border and centre are their mean brightness in [0, 1]. Edges lost is
    the mean decrease of the Sobel magnitude in brightness per pixel. Polarity dark does the same on negatives: edges
    are kept and the centre turns bright on dark ground. The search begins with the direction of steepest descent at z.

    Args:
        config: `optimise_steps`, `batch`, `accumulate`, `background_shifts` and `seed` are used. As many images are
            computed at once as in training.
        generator: G, frozen, on fabric's device.
        polarity: Whether the background should turn bright or dark.
        among: Classes to draw from; None for all.
        fabric: Where and in which precision to compute.

    Returns:
        h, float32 [latent_dim] of unit length, on the CPU.
    """

    at_once = len(own_parts(config.batch, config.accumulate)[0])

    def gradient(direction: Tensor, iteration: int) -> Tensor:
        random = random_stream(config.seed, Stream.OPTIMISE, iteration)
        latents, classes = (part.to(fabric.device) for part in generator.sample(config.batch, random, among))
        shift = config.background_shifts[iteration % len(config.background_shifts)]
        leaf = direction.detach().requires_grad_()
        for some, kinds in zip(latents.split(at_once), classes.split(at_once), strict=True):
            with fabric.autocast():
                with torch.no_grad():
                    before = brightness(generator(some, kinds), polarity)
                after = brightness(generator(some + shift * leaf, kinds), polarity)
            (_loss(before, after) * len(some) / len(latents)).backward()
        assert leaf.grad is not None
        return leaf.grad

    steepest = gradient(torch.zeros(generator.latent_dim, device=fabric.device), 0)
    free = F.normalize(-steepest, dim=0).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=LEARNING_RATE)
    steps = range(1, config.optimise_steps + 1)
    for iteration in tqdm(steps, f"optimising ({polarity})", unit="step"):
        optimiser.zero_grad()
        direction = F.normalize(free, dim=0)
        direction.backward(gradient(direction, iteration))
        optimiser.step()
    return F.normalize(free.detach(), dim=0).cpu()


def _loss(before: Tensor, after: Tensor) -> Tensor:
    edges_lost = F.relu(gradient_magnitude(centre(before)) - gradient_magnitude(centre(after))).mean()
    level = border(after).mean()
    return (1 - level) + (centre(after).mean() - level) + EDGE_WEIGHT * edges_lost
