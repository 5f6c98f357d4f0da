"""A discriminator on the features of a frozen ImageNet network (Sauer et al. 2021, "Projected GANs")."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from saliency_gan.encoders.frozen import STRIDES, FrozenEncoder

ENCODER = "tu-tf_efficientnet_lite1"
"""This network is never used to measure a generator, see `distance`, or to mark a photo."""
MIXED = 64
"""Channels of every map of the pyramid."""
WIDTH = 128
"""Channels inside a head."""
HEAD = 4
"""Side of the map of scores of a head, in positions."""


class FeaturePyramid(nn.Module):
    """Input of the heads: the maps of a frozen network, mixed at random, so that the heads have to use all of them.

    A 1 x 1 convolution mixes the channels of each map. Then, from the coarsest map to the finest, each map is added to
    the enlarged coarser one and mixed by a 3 x 3 convolution (Sauer et al., section 3.2). Nothing of it is trained. It
    depends only on the encoder's weights and a fixed seed, so checkpoints do not contain it.

    Args:
        side: Side in pixels to which images are resized, a multiple of 32.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.encoder = FrozenEncoder(ENCODER, side)
        random = torch.Generator().manual_seed(0)
        self.across_channels = nn.ModuleList(_random_convolution(width, 1, random) for width in self.encoder.widths)
        self.across_scales = nn.ModuleList(_random_convolution(MIXED, 3, random) for _ in self.encoder.widths)

    @property
    def sides(self) -> list[int]:
        """Side of every map in positions, finest first."""
        return [self.encoder.side // stride for stride in STRIDES]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [N, 1 or 3, H, W] in [-1, 1] -> maps [N, MIXED, side, side], one for each of `sides`."""
        maps = [mix(one) for mix, one in zip(self.across_channels, self.encoder(images), strict=True)]
        pyramid: list[Tensor] = []
        for mix, one in zip(reversed(self.across_scales), reversed(maps), strict=True):
            if pyramid:
                above = F.interpolate(pyramid[0], scale_factor=2, mode="bilinear")
                one = (one + above) * 0.5**0.5
            pyramid.insert(0, mix(one))
        return pyramid


def _random_convolution(inputs: int, side: int, random: torch.Generator) -> nn.Conv2d:
    """A frozen convolution to MIXED channels that keeps the variance (Kaiming, as in section 3.2)."""
    convolution = nn.Conv2d(inputs, MIXED, side, padding=side // 2, bias=False).requires_grad_(False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear", generator=random)
    return convolution.to(memory_format=torch.channels_last)


class ProjectedHeads(nn.Module):
    """One small network, called head, for each map of the pyramid; the trained part of a projected discriminator.

    Each head halves its map until its side is HEAD positions, and scores each position separately. The score has a
    class term as in `ResidualDiscriminator`.

    Args:
        num_classes: Number of classes; 1 leaves out the class term.
        sides: Side of every map in positions: HEAD, or twice another side.
    """

    def __init__(self, num_classes: int, sides: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_Head(num_classes, side) for side in sides)

    def forward(self, pyramid: Sequence[Tensor], classes: Tensor) -> Tensor:
        """Maps of `FeaturePyramid` and classes int64 [N] -> scores [N, maps * HEAD * HEAD], higher is more real."""
        return torch.cat([head(one, classes) for head, one in zip(self.heads, pyramid, strict=True)], dim=1)


class _Head(nn.Module):
    def __init__(self, num_classes: int, side: int) -> None:
        super().__init__()
        halvings = max(1, side // HEAD).bit_length() - 1
        self.halve = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(MIXED if index == 0 else WIDTH, WIDTH, 4, stride=2, padding=1, bias=False)),
                nn.GroupNorm(WIDTH // 4, WIDTH),
                nn.LeakyReLU(0.2),
            )
            for index in range(halvings)
        )
        self.mix = spectral_norm(nn.Conv2d(WIDTH if halvings else MIXED, WIDTH, 3, padding=1))
        self.score = spectral_norm(nn.Conv2d(WIDTH, 1, 1))
        self.embedding = spectral_norm(nn.Embedding(num_classes, WIDTH)) if num_classes > 1 else None

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        for halve in self.halve:
            features = halve(features)
        features = F.leaky_relu(self.mix(features), 0.2).float()
        scores = self.score(features)
        if self.embedding is not None:
            scores = scores + (self.embedding(classes)[:, :, None, None] * features).sum(dim=1, keepdim=True)
        return scores.flatten(1)
