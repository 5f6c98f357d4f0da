"""The SN-GAN family (Miyato et al. 2018): an unconditional residual generator of any power-of-two size.

The discriminator has spectral norm, see `residual_discriminator`; the generator has batch norm. The layers are those of
the generators in Voynov & Babenko's public code: z of 128 numbers, channels (256, 256, 256, 256) for MNIST at 32 px and
(1024, 512, 256, 128, 64) for AnimeFaces at 64 px.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.upsampling import UpsampledConv2d


@dataclass(frozen=True)
class SNGANArchitecture:
    """The sizes that are needed to build a generator before its weights are read.

    Attributes:
        resolution: Output side in pixels; 4 * 2^(number of blocks).
        latent_dim: d; z enters at the first layer only.
        channels: Channels at 4 px and after every block, so one number more than blocks.
        image_channels: 3 for colour, 1 for grey.
    """

    resolution: int = 32
    latent_dim: int = 128
    channels: tuple[int, ...] = (256, 256, 256, 256)
    image_channels: int = 1

    def __post_init__(self) -> None:
        require_resolution(self.resolution, self.channels)


class SNGAN(Generator):
    """An unconditional residual generator: linear layer to 4 px, blocks that double the side, norm, ReLU, conv, tanh.

    Args:
        architecture: Sizes of everything.
        name: Name used in messages and in files.
        class_names: Name of the only class.
    """

    def __init__(
        self, architecture: SNGANArchitecture, name: str = "sngan", class_names: tuple[str, ...] = ("all",)
    ) -> None:
        super().__init__()
        if len(class_names) != 1:
            raise ValueError(f"{len(class_names)} class names were given, but an SN-GAN is unconditional.")
        self.architecture = architecture
        self.name = name
        self.latent_dim = architecture.latent_dim
        self.num_classes = 1
        self.class_names = class_names
        self.resolution = architecture.resolution
        self.channels = architecture.image_channels
        channels = architecture.channels
        self.first = nn.Linear(architecture.latent_dim, channels[0] * 4 * 4)
        self.blocks = nn.ModuleList(UpsamplingBlock(inputs, outputs) for inputs, outputs in pairwise(channels))
        self.last_norm = nn.BatchNorm2d(channels[-1])
        self.last = nn.Conv2d(channels[-1], architecture.image_channels, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images; see `Generator.forward`. The classes are ignored."""
        features = self.first(latents).view(len(latents), -1, 4, 4)
        features = features.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features)
        return torch.tanh(self.last(F.relu(self.last_norm(features))).float())

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        """block0 (8 px) up to the block of the full resolution."""
        return {f"block{index}": block for index, block in enumerate(self.blocks)}

    def initialise(self, random: torch.Generator) -> None:
        """Sets the first weights, see `initialise_glorot`."""
        initialise_glorot(self, random)

    def metadata(self) -> dict[str, object]:
        """Returns what is needed to build this generator again, without its weights, as plain JSON values."""
        return {"family": "sngan", "architecture": asdict(self.architecture), "class_names": list(self.class_names)}


class UpsamplingBlock(nn.Module):
    """Residual block: norm, ReLU, upsample x2, conv, norm, ReLU, conv.

    The shortcut is upsampled. If the number of channels changes, it is also convolved.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = UpsampledConv2d(inputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = UpsampledConv2d(inputs, outputs) if inputs != outputs else nn.Upsample(scale_factor=2)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, inputs, H, W] -> features [N, outputs, 2 H, 2 W]."""
        residual = self.conv1(F.relu(self.norm1(features)))
        residual = self.conv2(F.relu(self.norm2(residual)))
        return residual + self.shortcut(features)


def initialise_glorot(network: nn.Module, random: torch.Generator) -> None:
    """Sets biases to zero and weights as in Glorot & Bengio 2010, but sqrt(2) larger in the residual branches.

    The code of Miyato et al. and that of Voynov & Babenko do the same.

    Args:
        network: Its residual blocks are UpsamplingBlocks.
        random: Where the weights are drawn from.
    """
    blocks = [module for module in network.modules() if isinstance(module, UpsamplingBlock)]
    residual = {conv for block in blocks for conv in (block.conv1, block.conv2)}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.xavier_uniform_(module.weight, 2**0.5 if module in residual else 1.0, generator=random)
            nn.init.zeros_(module.bias)


def require_resolution(resolution: int, channels: tuple[int, ...]) -> None:
    """Raises a UserError unless blocks that begin at 4 px, one for each number after the first, reach `resolution`."""
    side = 2 * 2 ** len(channels)
    if len(channels) < 2 or resolution != side:
        raise UserError(
            f"{len(channels)} channel numbers make a {side} px generator, but resolution is {resolution}: give"
            " log2(resolution / 2) numbers, at least two."
        )
