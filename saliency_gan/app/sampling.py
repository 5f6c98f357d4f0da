"""Latents and classes of the images on the page's tabs."""

import torch
from torch import Tensor

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator


def sample(generator: Generator, random: torch.Generator, count: int, class_index: int | None) -> tuple[Tensor, Tensor]:
    """Draws z, float [count, latent_dim], and c, int64 [count].

    Args:
        generator: The generator.
        random: CPU random generator.
        count: Number of samples.
        class_index: Class c of all samples; None draws each at random.

    Raises:
        UserError: If there is no such class.
    """
    if class_index is not None and not 0 <= class_index < generator.num_classes:
        raise UserError(f"There is no class {class_index}: {generator.name} has {generator.num_classes}.")
    among = None if class_index is None else [class_index]
    return generator.sample(count, random, among)
