"""Differentiable augmentation (Zhao et al. 2020) of real and generated images, so the generator does not learn it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, translation: float, colour: float, random: torch.Generator) -> Tensor:
    """Shifts every image and changes its brightness, saturation and contrast, each by its own random amount.

    Args:
        images: Float [N, C, H, W] in [-1, 1].
        translation: Largest shift as a share of the side. Pixels that move in are zero (grey), as in the paper.
        colour: Strength: brightness moves by up to +-colour, saturation and contrast are scaled by 1 +- colour.
        random: CPU random stream that the amounts are drawn from.

    Returns:
        Images of the same shape; colours may leave [-1, 1].
    """
    count, _, height, width = images.shape
    if colour:
        amounts = torch.rand(3, count, 1, 1, 1, generator=random).mul_(2 * colour).sub_(colour).to(images)
        brightness, saturation, contrast = amounts[0], 1 + amounts[1], 1 + amounts[2]
        images = images + brightness
        grey = images.mean(dim=1, keepdim=True)
        images = torch.lerp(grey, images, saturation)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = torch.lerp(mean, images, contrast)
    if translation:
        reach = int(max(height, width) * translation + 0.5)
        offsets = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=random).to(images.device)
        rows = torch.arange(height, device=images.device) + offsets[0]
        columns = torch.arange(width, device=images.device) + offsets[1]
        padded = F.pad(images, (reach,) * 4).permute(0, 2, 3, 1)
        index = torch.arange(count, device=images.device)[:, None, None]
        images = padded[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images
