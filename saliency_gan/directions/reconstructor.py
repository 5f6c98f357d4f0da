"""R, the network that predicts the direction and the size of a shift (Voynov & Babenko 2020, section 3.1)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.errors import UserError, reason_of
from saliency_gan.storage.files import write_bytes

ReconstructorKind = Literal["resnet18", "lenet"]
SMALLEST_SIDE = 32
"""Pixels; smaller images are enlarged. LeNet-5 is made for 32 px. In ResNet-18, smaller images would have a single
pixel in the last stage, and torch's bf16 gradients of it on the CPU can be NaN."""
LARGEST_SMALL_MAP = 4
"""Pixels along a side."""


class Reconstructor(nn.Module):
    """R(G(z, c), G(z + A (eps e_k), c)) -> (k, eps): one trunk on the two stacked images, two heads.

    LeNet is LeNet-5 with batch norm and ReLU: 6, 16 and 120 channels, 84 hidden units per head, as in the authors'
    code. For images above 32 px, features are averaged over their positions. ResNet-18 keeps its usual stem at every
    resolution: stems for small images (no pooling, stride 1) would make R 4 to 16 times as expensive, more expensive
    than the generator.

    Args:
        kind: resnet18, or lenet for digits and other simple images.
        count: K, the number of directions to tell apart.
        channels: Colour channels of one image.
    """

    def __init__(self, kind: ReconstructorKind, count: int, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.description = {"kind": kind, "K": count, "channels": channels}
        self.trunk, features = _TRUNKS[kind](2 * channels)
        self.direction_head = _HEADS[kind](features, count)
        self.shift_head = _HEADS[kind](features, 1)

    def forward(self, originals: Tensor, shifted: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts k and eps.

        Args:
            originals: G(z, c), float [N, channels, H, W] in [-1, 1].
            shifted: G(z + A (eps e_k), c), of the same shape.

        Returns:
            Logits over directions, float [N, K], and eps, float [N].
        """
        pairs = torch.cat([originals, shifted], dim=1)
        if pairs.shape[-1] < SMALLEST_SIDE:
            pairs = F.interpolate(pairs, size=(SMALLEST_SIDE, SMALLEST_SIDE))
        features = self.trunk(pairs)
        return self.direction_head(features), self.shift_head(features).squeeze(1)


def save_reconstructor(network: Reconstructor, path: Path) -> None:
    """Writes the weights of R as a safetensors file, atomically."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors, {"reconstructor": json.dumps(network.description)}))


def load_reconstructor(network: Reconstructor, path: Path) -> bool:
    """Reads what `save_reconstructor` wrote.

    Returns:
        Whether it was read. It is not if there is no such file, or if it holds an R of another kind or size.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            if json.loads((file.metadata() or {})["reconstructor"]) != network.description:
                return False
        network.load_state_dict(safetensors.torch.load_file(path))
    except FileNotFoundError:
        return False
    except (safetensors.SafetensorError, OSError, LookupError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is damaged or no R that discover wrote ({reason_of(error)}).") from None
    return True


def _resnet18(channels: int) -> tuple[nn.Module, int]:
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    features = network.fc.in_features
    network.fc = nn.Identity()
    for module in network.layer4.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.stride == (1, 1):
            module.__class__ = SmallMapConv2d  # the same parameters under the same names
    return network, features


class SmallMapConv2d(nn.Conv2d):
    """A 3x3 convolution without bias. On a CPU, it convolves a map of a few pixels as a matrix product.

    For 64 px images, ResNet-18 has maps of 2 x 2 pixels with many channels. torch's own gradients on these take three
    times as long.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, inputs, H, W] -> features [N, outputs, H, W]."""
        count, _, height, width = features.shape
        if height > LARGEST_SMALL_MAP or features.device.type != "cpu":
            return super().forward(features)
        padded = F.pad(features.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        taps = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
        windows = torch.stack(taps, dim=3).flatten(3).flatten(0, 2)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return (windows @ weight.T).view(count, height, width, -1).permute(0, 3, 1, 2)


def _lenet(channels: int) -> tuple[nn.Module, int]:
    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 5), nn.BatchNorm2d(outputs), nn.ReLU()]

    features = 120
    return nn.Sequential(
        *convolution(channels, 6),
        nn.MaxPool2d(2),
        *convolution(6, 16),
        nn.MaxPool2d(2),
        *convolution(16, features),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ), features


def _lenet_head(inputs: int, outputs: int) -> nn.Module:
    hidden = 84
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


_TRUNKS = {"resnet18": _resnet18, "lenet": _lenet}
_HEADS: dict[str, Callable[[int, int], nn.Module]] = {"resnet18": nn.Linear, "lenet": _lenet_head}
