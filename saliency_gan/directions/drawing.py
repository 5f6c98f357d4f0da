"""Draws images without gradients, in batches, and lays them out as sheets."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from saliency_gan.generators.base import Generator
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def images_at_once(generator: Generator) -> int:
    """Batch size of a forward pass without gradients: 128 at 64 px, and the same number of pixels at other sizes."""
    return max(1, 128 * 64**2 // generator.resolution**2)


@torch.no_grad()
def draw(generator: Generator, latents: Tensor, classes: Tensor, fabric: "Fabric") -> Tensor:
    """G(z, c) for any number of latents, in fabric's precision.

    Args:
        generator: G, frozen, on fabric's device.
        latents: z, float [N, latent_dim], on any device.
        classes: c, int64 [N], on any device.
        fabric: Where and in which precision to compute.

    Returns:
        float32 [N, channels, H, W] in [-1, 1] on fabric's device.
    """
    batch = images_at_once(generator)
    with fabric.autocast():
        parts = [
            generator(some_latents.to(fabric.device), some_classes.to(fabric.device)).float()
            for some_latents, some_classes in zip(latents.split(batch), classes.split(batch), strict=True)
        ]
    return torch.cat(parts)


def draw_shifted(generator: Generator, latents: Tensor, classes: Tensor, offsets: Tensor, fabric: "Fabric") -> Tensor:
    """G(z + offset, c) for every offset and every (z, c).

    Args:
        generator: G, frozen, on fabric's device.
        latents: z, float [N, latent_dim].
        classes: c, int64 [N].
        offsets: Shifts of the latents, float [M, latent_dim].
        fabric: Where and in which precision to compute.

    Returns:
        float32 [M, N, channels, H, W] in [-1, 1] on fabric's device.
    """
    everywhere = (latents[None] + offsets[:, None]).flatten(0, 1)
    images = draw(generator, everywhere, classes.repeat(len(offsets)), fabric)
    return images.unflatten(0, (len(offsets), len(latents)))


def lay_out(shown: Tensor, tile: int) -> ImageArray:
    """Lays out images of `draw_shifted` as one sheet with one row per latent and one column per shift.

    Args:
        shown: float [M, N, channels, H, W] in [-1, 1].
        tile: Side of every image on the sheet, in pixels.

    Returns:
        uint8 [H', W', 3].
    """
    tiles = to_uint8(shown.transpose(0, 1).flatten(0, 1))
    how = cv2.INTER_AREA if tiles.shape[1] > tile else cv2.INTER_NEAREST
    return grid([np.asarray(cv2.resize(one, (tile, tile), interpolation=how), np.uint8) for one in tiles], len(shown))
