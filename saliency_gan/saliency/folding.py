"""Makes a frozen saliency model faster: without batch norms, and without upsampled maps in a U-Net's decoder."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.encoders.library import Conv2dSame, UnetDecoderBlock
from saliency_gan.encoders.norms import fold_norms
from saliency_gan.generators.upsampling import transposed_kernel
from saliency_gan.saliency.model import SaliencyModel

TOLERANCE = 1e-3
"""Largest allowed difference to the logits of the original model. Rounding causes a hundredth of it."""


@torch.no_grad()
def fold(model: SaliencyModel) -> SaliencyModel:
    """Makes a faster copy of a model in evaluation mode with the same outputs; the copy can't be trained or saved.

    A batch norm is folded into the convolution before it. In a U-Net's decoder, a convolution takes an upsampled map
    concatenated with a skip connection. It becomes a transposed convolution of the small map, with 4/9 of the
    multiplications, plus a convolution of the skip connection. TensorFlow's uneven padding becomes part of the kernel,
    so no map is copied for padding.

    Returns:
        The copy, or the model itself if their outputs differ, for example if a network uses a convolution twice.
    """
    folded = copy.deepcopy(model)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).to(model.mean)
    fold_norms(folded, lambda: folded(images))
    _fold_padding(folded)
    if folded.architecture.architecture.lower() == "unet":
        _fold_decoder(folded.network)
    folded.to(memory_format=torch.channels_last)
    same = torch.allclose(folded(images), model(images), rtol=TOLERANCE, atol=TOLERANCE)
    return folded.requires_grad_(False) if same else model


def _fold_padding(network: nn.Module) -> None:
    """Replaces convolutions of stride 2 with TensorFlow's padding, which for even sides pads one more pixel at the end.

    The new convolution pads both ends equally, and its kernel has one more row and column of zeros at the start.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, Conv2dSame):
                continue
            size = child.kernel_size[0]
            if size % 2 and child.kernel_size == (size, size) and child.stride == (2, 2) and child.dilation == (1, 1):
                shape = child.in_channels, child.out_channels, size + 1, 2, size // 2
                plain = nn.Conv2d(*shape, groups=child.groups, bias=child.bias is not None)
                plain.weight, plain.bias = nn.Parameter(F.pad(child.weight, (1, 0, 1, 0))), child.bias
                setattr(parent, name, plain)


def _fold_decoder(network: Any) -> None:
    """Replaces the blocks of a U-Net's decoder that upsample by nearest neighbours and have no attention."""
    channels = network.encoder.out_channels[-1]
    for index, block in enumerate(network.decoder.blocks):
        if _is_plain(block):
            network.decoder.blocks[index] = FoldedDecoderBlock(block, channels)
        channels = block.conv2[0].out_channels


def _is_plain(block: UnetDecoderBlock) -> bool:
    norm, attention = block.conv1[1], block.attention1.attention
    return block.interpolation_mode == "nearest" and all(isinstance(one, nn.Identity) for one in (norm, attention))


class FoldedDecoderBlock(nn.Module):
    """Computes the same as a `UnetDecoderBlock` without attention that upsamples x2.

    Args:
        block: The original block; its first batch norm is already folded.
        channels: Channels of the map to upsample; the channels of the skip connection follow them.
    """

    def __init__(self, block: UnetDecoderBlock, channels: int) -> None:
        super().__init__()
        convolution = block.conv1[0]
        self.kernel = nn.Parameter(transposed_kernel(convolution.weight[:, :channels]))
        self.skip_weight = nn.Parameter(convolution.weight[:, channels:].clone())
        self.bias = convolution.bias
        self.after = nn.Sequential(block.conv1[2], block.conv2, block.attention2)

    def forward(
        self, feature_map: Tensor, target_height: int, target_width: int, skip_connection: Tensor | None = None
    ) -> Tensor:
        """Feature map [N, channels, H, W], skip connection [N, others, 2 H, 2 W] -> [N, outputs, 2 H, 2 W]."""
        features = F.conv_transpose2d(feature_map, self.kernel, self.bias, stride=2, padding=1)
        if skip_connection is not None and self.skip_weight.shape[1]:
            features = features + F.conv2d(skip_connection, self.skip_weight, padding=1)
        return self.after(features)
