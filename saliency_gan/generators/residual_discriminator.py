"""A residual discriminator with spectral norm (Miyato et al. 2018) for adversarial training."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class ResidualDiscriminator(nn.Module):
    """D(x, c) = psi(phi(x)) + <embedding(c), phi(x)>, with phi a stack of residual blocks (Miyato & Koyama 2018).

    With only one class, the second term is left out.

    The first layer turns each 2 x 2 square of pixels into channels. Convolutions at full resolution with few channels
    cost the most time on a CPU. Without them, a step takes half the time.

    Args:
        num_classes: Number of classes c.
        channels: Channels of the blocks. The first map has half the image's side, and each block halves the map. One
            more block keeps the size.
        image_channels: 3 for colour, 1 for grey.
    """

    def __init__(self, num_classes: int, channels: tuple[int, ...], image_channels: int = 3) -> None:
        super().__init__()
        widths = (4 * image_channels, *channels, channels[-1])
        last = len(channels)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(inputs, outputs, halve=index < last, first=index == 0)
            for index, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.score = spectral_norm(nn.Linear(channels[-1], 1))
        self.embedding = spectral_norm(nn.Embedding(num_classes, channels[-1])) if num_classes > 1 else None

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Scores images [N, image_channels, H, W] in [-1, 1] of classes int64 [N]; returns [N], higher is more real."""
        features = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features)
        features = F.relu(features).float().sum(dim=(2, 3)) / 4
        scores = self.score(features).squeeze(1)
        return scores if self.embedding is None else scores + (self.embedding(classes) * features).sum(dim=1)


class DiscriminatorBlock(nn.Module):
    """Residual block: (ReLU,) conv, ReLU, conv, average pool; the shortcut is pooled before its 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(inputs, outputs, 1)) if inputs != outputs else nn.Identity()
        self.halve = halve
        self.first = first

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, inputs, H, W] -> [N, outputs, H, W], or [N, outputs, H / 2, W / 2] with `halve`."""
        residual = features if self.first else F.relu(features)
        residual = self.conv2(F.relu(self.conv1(residual)))
        shortcut = features
        if self.halve:
            residual, shortcut = F.avg_pool2d(residual, 2), F.avg_pool2d(shortcut, 2)
        return residual + self.shortcut(shortcut)
