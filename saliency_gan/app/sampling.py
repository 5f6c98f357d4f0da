"""The latents and classes that the page's tabs draw images of."""

import torch
from torch import Tensor

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator


def sample(generator: Generator, random: torch.Generator, count: int, class_index: int | None) -> tuple[Tensor, Tensor]:
    """Draws z, float [count, latent_dim], and c, int64 [count].

    Args:
        generator: Whose latents and classes they are.
        random: CPU stream that they are drawn from.
        count: How many.
        class_index: c of all of them; None draws each at random.

    Raises:
        UserError: If there is no such class.
    """
    if class_index is not None and not 0 <= class_index < generator.num_classes:
        raise UserError(f"There is no class {class_index}: {generator.name} has {generator.num_classes}.")
    among = None if class_index is None else [class_index]
    return generator.sample(count, random, among)
