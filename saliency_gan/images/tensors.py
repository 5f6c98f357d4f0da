"""Converts images between uint8 arrays and tensors in [-1, 1] and [0, 1]."""

from typing import TYPE_CHECKING

from saliency_gan.images import ImageArray

if TYPE_CHECKING:
    import torch  # prediction with onnxruntime does not need it
    from torch import Tensor


def to_uint8(images: "Tensor") -> ImageArray:
    """Float [N, C, H, W] in [-1, 1] -> uint8 [N, H, W, 3]; grey is repeated, values outside are clipped."""
    scaled = images.float().add(1).mul_(127.5).round_().clamp_(0, 255).byte()
    if scaled.shape[1] == 1:
        scaled = scaled.expand(-1, 3, -1, -1)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_signed(images: ImageArray, device: "torch.device | str" = "cpu") -> "Tensor":
    """uint8 [N, H, W, C] -> float [N, C, H, W] in [-1, 1] on `device`; only the bytes are copied to it."""
    import torch

    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_unit(images: "Tensor") -> "Tensor":
    """Float in [-1, 1] -> float in [0, 1], clipped."""
    return images.add(1).div(2).clamp(0, 1)
