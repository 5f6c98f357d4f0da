"""R, the network that recognises which direction was taken, and how far (Voynov & Babenko 2020, section 3.1)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ReconstructorKind = Literal["resnet18", "lenet"]
SMALLEST_RESNET_SIDE = 32
"""Pixels. Smaller images reach its last stage as one pixel, of which torch's bf16 gradients on the CPU can be NaN."""


class Reconstructor(nn.Module):
    """R(G(z, c), G(z + A (eps e_k), c)) -> (k, eps): one trunk on the two stacked images, two heads.

    ResNet-18 keeps its usual stem at every resolution. The stems made for small images (no pooling, stride 1) multiply
    R's cost by 4 to 16, more than the generator's.

    Args:
        kind: resnet18, or lenet for digits and other simple images.
        count: K, the number of directions to tell apart.
        channels: Colour channels of one image.
    """

    def __init__(self, kind: ReconstructorKind, count: int, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.trunk, features = _TRUNKS[kind](2 * channels)
        self.direction_head = nn.Linear(features, count)
        self.shift_head = nn.Linear(features, 1)

    def forward(self, originals: Tensor, shifted: Tensor) -> tuple[Tensor, Tensor]:
        """Guesses k and eps.

        Args:
            originals: G(z, c), float [N, channels, H, W] in [-1, 1].
            shifted: G(z + A (eps e_k), c), of the same shape.

        Returns:
            Logits over directions, float [N, K], and eps, float [N].
        """
        pairs = torch.cat([originals, shifted], dim=1)
        if self.kind == "resnet18" and pairs.shape[-1] < SMALLEST_RESNET_SIDE:
            pairs = F.interpolate(pairs, size=(SMALLEST_RESNET_SIDE,) * 2)
        features = self.trunk(pairs)
        return self.direction_head(features), self.shift_head(features).squeeze(1)


def _resnet18(channels: int) -> tuple[nn.Module, int]:
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    features = network.fc.in_features
    network.fc = nn.Identity()
    return network, features


def _lenet(channels: int) -> tuple[nn.Module, int]:
    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 5, padding=2), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    features = 84
    return nn.Sequential(
        *convolution(channels, 32),
        *convolution(32, 64),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 120),
        nn.ReLU(),
        nn.Linear(120, features),
        nn.ReLU(),
    ), features


_TRUNKS = {"resnet18": _resnet18, "lenet": _lenet}
