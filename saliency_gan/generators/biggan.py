"""The class-conditional BigGAN family (Brock et al. 2019): residual blocks, hierarchical z, shared class embedding."""

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.upsampling import UpsampledConv2d


@dataclass(frozen=True)
class BigGANArchitecture:
    """The sizes that are needed to build a generator before its weights are read.

    Attributes:
        resolution: Output side in pixels; 4 * 2^(number of blocks).
        latent_dim: d. Split evenly into one piece for the first layer and one for every block (hierarchical z).
        num_classes: Number of classes.
        embedding_dim: Length of the class embedding that all blocks share.
        channels: Channels at 4 px and after every block, so one number more than blocks.
        attention_at: Side in pixels of the feature map that gets self-attention: 8, 16, ... or the resolution; 0 for
            none.
    """

    resolution: int = 64
    latent_dim: int = 120
    num_classes: int = 1000
    embedding_dim: int = 32
    channels: tuple[int, ...] = (256, 192, 128, 64, 32)
    attention_at: int = 0

    def __post_init__(self) -> None:
        blocks = len(self.channels) - 1
        if blocks < 1 or self.resolution != 4 * 2**blocks:
            raise UserError(
                f"{len(self.channels)} channel numbers make a {4 * 2**blocks} px generator, but resolution is"
                f" {self.resolution}: give log2(resolution / 4) + 1 numbers."
            )
        if self.latent_dim % (blocks + 1):
            raise UserError(
                f"latent_dim {self.latent_dim} cannot be split into {blocks + 1} equal pieces, one for the first layer"
                f" and one for each of the {blocks} blocks: choose a multiple of {blocks + 1}."
            )
        sides = self.block_sides
        if self.attention_at and (
            self.attention_at not in sides or self.channels[1 + sides.index(self.attention_at)] < 8
        ):
            raise UserError(
                f"attention_at {self.attention_at} needs a feature map of that side with at least 8 channels: choose"
                f" one of {', '.join(map(str, sides))}, or 0 for none."
            )

    @property
    def block_sides(self) -> list[int]:
        """Side in pixels of every block's output."""
        return [8 * 2**index for index in range(len(self.channels) - 1)]


BIGGAN_128 = BigGANArchitecture(128, 120, 1000, 128, (1536, 1536, 768, 384, 192, 96), 64)
"""The 128 px ImageNet model of the paper, channel multiplier 96."""


class BigGAN(Generator):
    """A BigGAN of any size, from the bundled 64 px one to the paper's 128 px ImageNet model.

    Args:
        architecture: Sizes of everything.
        name: Name used in messages and in files.
        class_names: One name per class; default: the class numbers.
    """

    def __init__(
        self, architecture: BigGANArchitecture, name: str = "biggan", class_names: tuple[str, ...] | None = None
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.name = name
        self.latent_dim = architecture.latent_dim
        self.num_classes = architecture.num_classes
        self.class_names = class_names or tuple(str(index) for index in range(architecture.num_classes))
        if len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class names were given for {self.num_classes} classes.")
        self.resolution = architecture.resolution
        channels = architecture.channels
        self.piece = architecture.latent_dim // len(channels)
        self.embedding = nn.Embedding(architecture.num_classes, architecture.embedding_dim)
        self.first = nn.Linear(self.piece, channels[0] * 4 * 4)
        condition_dim = architecture.embedding_dim + self.piece
        self.blocks = nn.ModuleList(
            GeneratorBlock(inputs, outputs, condition_dim) for inputs, outputs in pairwise(channels)
        )
        self.attention = nn.ModuleDict()
        if side := architecture.attention_at:
            width = channels[1 + architecture.block_sides.index(side)]
            self.attention[str(side)] = SelfAttention(width)
        self.last_norm = nn.BatchNorm2d(channels[-1])
        self.last = nn.Conv2d(channels[-1], self.channels, 3, padding=1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images; see `Generator.forward`."""
        pieces = latents.split(self.piece, dim=1)
        embedded = self.embedding(classes)
        features = self.first(pieces[0]).view(len(latents), -1, 4, 4)
        features = features.contiguous(memory_format=torch.channels_last)
        for block, piece in zip(self.blocks, pieces[1:], strict=True):
            features = block(features, torch.cat([embedded, piece], dim=1))
            side = str(features.shape[-1])
            if side in self.attention:
                features = self.attention[side](features)
        return torch.tanh(self.last(F.relu(self.last_norm(features), inplace=True)).float())

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        """block0 (8 px) up to the block of the full resolution."""
        return {f"block{index}": block for index, block in enumerate(self.blocks)}

    def initialise(self, random: torch.Generator) -> None:
        """Sets every convolution, linear layer and embedding to a random orthogonal matrix and every bias to zero.

        Brock et al., section 2.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                nn.init.orthogonal_(module.weight, generator=random)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def metadata(self) -> dict[str, object]:
        """Returns what is needed to build this generator again, without its weights, as plain JSON values."""
        return {"family": "biggan", "architecture": asdict(self.architecture), "class_names": list(self.class_names)}


class GeneratorBlock(nn.Module):
    """Upsampling residual block: norm, ReLU, upsample x2, conv, norm, ReLU, conv, plus a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(inputs, condition_dim)
        self.conv1 = UpsampledConv2d(inputs, outputs)
        self.norm2 = ConditionalBatchNorm(outputs, condition_dim)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Features [N, inputs, H, W] and condition [N, condition_dim] -> features [N, outputs, 2 H, 2 W]."""
        residual = self.conv1(F.relu(self.norm1(features, condition), inplace=True))
        residual = self.conv2(F.relu(self.norm2(residual, condition), inplace=True))
        # A 1x1 convolution and nearest upsampling commute, so the shortcut convolves the four times smaller map.
        return residual + F.interpolate(self.shortcut(features), scale_factor=2)


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain (around 1) and bias are linear in the condition: class embedding and a piece of z."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(condition_dim, channels, bias=False)
        self.bias = nn.Linear(condition_dim, channels, bias=False)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Features [N, channels, H, W] and condition [N, condition_dim] -> features of the same shape."""
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        if self.training:
            features = self.norm(features)
        else:  # with fixed statistics, normalisation is a scale and a shift, so gain and bias include it
            gain = gain * torch.rsqrt(self.norm.running_var + self.norm.eps)  # type: ignore[arg-type, operator]
            bias = bias - gain * self.norm.running_mean
        gain, bias = gain.to(features.dtype), bias.to(features.dtype)
        return torch.addcmul(bias[:, :, None, None], features, gain[:, :, None, None])


class SelfAttention(nn.Module):
    """Self-attention over positions (Zhang et al. 2019): 1/8 of the channels for query and key, 1/2 for the value."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.output = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, channels, H, W] -> features of the same shape; the identity while `scale` is zero."""
        count, _, height, width = features.shape
        query = self.query(features).flatten(2).transpose(1, 2)
        key = F.max_pool2d(self.key(features), 2).flatten(2).transpose(1, 2)
        value = F.max_pool2d(self.value(features), 2).flatten(2).transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        attended = attended.transpose(1, 2).reshape(count, -1, height, width)
        return features + self.scale * self.output(attended)
