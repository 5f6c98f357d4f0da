"""A frozen ImageNet network that computes features of images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.encoders.library import smp
from saliency_gan.encoders.norms import fold_norms
from saliency_gan.encoders.pretrained import load_packaged_weights, simplify, statistics_of

STRIDES = (4, 8, 16, 32)
"""Strides of the encoder's feature maps in pixels of the resized image, finest first."""


class FrozenEncoder(nn.Module):
    """An encoder with ImageNet weights that is never trained; its batch norms are folded into its convolutions.

    Args:
        name: One of `encoders.pretrained.PACKAGES`.
        side: Side in pixels to which images are resized for the network, a multiple of 32.

    Attributes:
        widths: Channels of the feature map for each of STRIDES.

    Raises:
        UserError: If the package with its weights is missing or damaged.
    """

    def __init__(self, name: str, side: int) -> None:
        super().__init__()
        self.side = side
        encoder = smp.encoders.get_encoder(name, depth=len(STRIDES) + 1, weights=None)
        simplify(encoder)
        load_packaged_weights(encoder, name)
        encoder.eval()
        fold_norms(encoder, lambda: encoder(torch.zeros(1, 3, 64, 64)))
        self.encoder = encoder.requires_grad_(False).to(memory_format=torch.channels_last)
        self.widths: list[int] = list(encoder.out_channels[-len(STRIDES) :])
        for key, values in zip(("mean", "std"), statistics_of(name), strict=True):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [N, 1 or 3, H, W] in [-1, 1] -> a map [N, width, side / stride, side / stride] for each of STRIDES.

        Gradients pass to the images.
        """
        if images.shape[-1] != self.side:
            images = F.interpolate(
                images, (self.side, self.side), mode="bilinear", antialias=images.shape[-1] > self.side
            )
        images = ((images + 1) / 2 - self.mean) / self.std  # a grey image has three equal channels from here on
        return self.encoder(images.contiguous(memory_format=torch.channels_last))[-len(STRIDES) :]
