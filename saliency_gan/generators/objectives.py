"""Losses beside D's hinge loss: the generator loss, R1, and the orthogonality penalty of EigenGAN's bases."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.generators.base import Generator
from saliency_gan.generators.eigengan import EigenGAN

GeneratorLoss = Literal["linear", "hinge"]


def generator_loss(scores: Tensor, kind: GeneratorLoss) -> Tensor:
    """G's loss on the scores [N] or [N, K] of its images: the mean of -D(G) (SN-GAN, BigGAN) or of relu(1 - D(G))
    (EigenGAN)."""
    return -scores.float().mean() if kind == "linear" else F.relu(1 - scores.float()).mean()


def gradient_penalty(images: Tensor, scores: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): half the squared gradient norm of D at real images, as a mean over the images.

    Args:
        images: Real images [N, C, H, W] that require a gradient.
        scores: D's scores [N] of them.

    Returns:
        E |grad D(x)|^2 / 2, a scalar that is differentiable with respect to D's weights.
    """
    (gradient,) = torch.autograd.grad(scores.float().sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean() / 2


def orthogonality_penalty(generator: Generator) -> Tensor | float:
    """|U^T U - I|^2 / q^2 of an EigenGAN's layers, 0 for other families."""
    return generator.orthogonality() if isinstance(generator, EigenGAN) else 0.0


def keep_orthonormal(generator: Generator) -> None:
    """Moves the bases of an EigenGAN to the nearest orthonormal ones; other families have none."""
    if isinstance(generator, EigenGAN):
        for subspace in generator.layers():
            subspace.make_orthonormal()
