"""BigGAN-deep for ImageNet at 128, 256 and 512 px (Brock et al. 2019), from the package pytorch-pretrained-biggan.

Its latents and directions differ from those of `biggan.BigGAN`: every layer gets the whole z of 128 numbers, and the
batch norms hold statistics for 51 truncations.
"""

import math
from pathlib import Path

import pytorch_pretrained_biggan as package
import torch
import torch.nn.functional as F
from pytorch_pretrained_biggan.model import BigGANBatchNorm, GenBlock, SelfAttn
from torch import Tensor, nn

from saliency_gan.errors import UserError, reason_of
from saliency_gan.generators import imagenet
from saliency_gan.generators.base import Generator
from saliency_gan.generators.biggan import SelfAttention
from saliency_gan.generators.upsampling import UpsampledConv2d
from saliency_gan.storage.files import read_json, sha256_of
from saliency_gan.storage.torch_files import load_torch

CONFIG, WEIGHTS = "config.json", "pytorch_model.bin"


class BigGANDeep(Generator):
    """A pretrained BigGAN-deep that implements `Generator`.

    It uses the weights of the package's model, and draws the same images with fewer operations.

    Args:
        model: The package's model, without spectral norms.
        name: Name in the zoo.
        truncation: Scale of the latents in (0, 1]; every |z| is at most 2 * truncation. It also chooses the batch
            statistics, which were measured at the multiples of 0.02.
    """

    def __init__(self, model: package.BigGAN, name: str, truncation: float = 1.0) -> None:
        super().__init__()
        self.name = name
        self.truncation = truncation
        self.latent_dim = model.config.z_dim
        self.num_classes = model.config.num_classes
        self.class_names = _class_names(self.num_classes)
        self.resolution = model.config.output_dim
        theirs = model.generator
        self.embedding = nn.Embedding.from_pretrained(model.embeddings.weight.detach().T.contiguous())
        self.first = theirs.gen_z
        self.layers = nn.ModuleList(
            DeepBlock(layer, truncation) if isinstance(layer, GenBlock) else _attention(layer)
            for layer in theirs.layers
        )
        self.last_norm = _last_norm(theirs.bn, truncation)
        self.last = _convolution(theirs.conv_to_rgb, self.channels)  # its other outputs are not used

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images; see `Generator.forward`. The latents have to be truncated already, as `sample_latents` does."""
        condition = torch.cat([latents, self.embedding(classes).to(latents.dtype)], dim=1)
        features = self.first(condition).view(len(latents), 4, 4, -1).permute(0, 3, 1, 2)  # TensorFlow's order
        for layer in self.layers:
            features = layer(features, condition) if isinstance(layer, DeepBlock) else layer(features)
        return torch.tanh(self.last(F.relu(self.last_norm(features), inplace=True))).float()

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        """layer0 (4 px) up to the last residual block; one of them is self-attention."""
        return {f"layer{index}": layer for index, layer in enumerate(self.layers)}

    def sample_latents(self, count: int, random: torch.Generator) -> Tensor:
        """Draws z ~ truncation * N(0, I) with every |z| <= 2 * truncation, float [count, latent_dim], on the CPU."""
        latents = torch.empty(count, self.latent_dim)
        return nn.init.trunc_normal_(latents, a=-2.0, b=2.0, generator=random).mul_(self.truncation)


class DeepBlock(nn.Module):
    """Bottleneck residual block: four convolutions of 1, 3, 3 and 1 px, each after a norm and ReLU.

    If the block upsamples, its second convolution does it. The shortcut drops surplus channels.

    Args:
        block: The package's block.
        truncation: Chooses the batch statistics.
    """

    def __init__(self, block: GenBlock, truncation: float) -> None:
        super().__init__()
        self.upsamples = block.up_sample
        norms = (block.bn_0, block.bn_1, block.bn_2, block.bn_3)
        self.norms = nn.ModuleList(FrozenConditionalNorm(norm, truncation) for norm in norms)
        second = _upsampled_convolution(block.conv_1) if block.up_sample else block.conv_1
        self.convolutions = nn.ModuleList((block.conv_0, second, block.conv_2, block.conv_3))
        self.outputs = block.conv_3.out_channels

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Features [N, inputs, H, W] and condition [N, condition_dim] -> features [N, outputs, H', W']."""
        residual = features
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            residual = convolution(F.relu(norm(residual, condition), inplace=True))
        shortcut = features[:, : self.outputs]
        return residual + (F.interpolate(shortcut, scale_factor=2) if self.upsamples else shortcut)


class FrozenConditionalNorm(nn.Module):
    """Batch norm with fixed statistics whose gain and bias are linear in the condition.

    (x - mean) / deviation * (1 + S c) + O c equals x * g(c) + b(c), where g and b are linear in c. One linear layer
    computes both.

    Args:
        norm: The package's norm.
        truncation: Chooses the batch statistics.
    """

    def __init__(self, norm: BigGANBatchNorm, truncation: float) -> None:
        super().__init__()
        mean, variance = _statistics(norm, truncation)
        factor = (variance + norm.eps).rsqrt()
        gain = norm.scale.weight.detach() * factor[:, None]
        bias = norm.offset.weight.detach() - gain * mean[:, None]
        self.linear = nn.Linear(gain.shape[1], 2 * len(gain))
        self.linear.weight.data = torch.cat([gain, bias])
        self.linear.bias.data = torch.cat([factor, -factor * mean])

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Features [N, channels, H, W] and condition [N, condition_dim] -> features of the same shape."""
        gain, bias = self.linear(condition).to(features.dtype)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(bias, features, gain)


def load_biggan_deep(name: str, weights: Path, truncation: float = 1.0) -> BigGANDeep:
    """Loads BigGAN-deep from its two public files.

    Args:
        name: biggan-deep-128, biggan-deep-256 or biggan-deep-512.
        weights: Folder with config.json and pytorch_model.bin, or the weights file in such a folder. The file names may
            begin with `name-`, as on the server.
        truncation: See `BigGANDeep`.

    Raises:
        UserError: If files are missing, damaged or of another model.
    """
    folder = weights.parent if weights.is_file() else weights
    config_path = _find(folder, name, CONFIG)
    weights_path = weights if weights.is_file() else _find(folder, name, WEIGHTS)
    model = _build(config_path, name)
    state = load_torch(weights_path)
    try:
        # Extra tensors are allowed, as in the package. Missing ones are not, unlike in the package.
        missing = model.load_state_dict(state, strict=False).missing_keys
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        missing = [reason_of(error)]
    if missing:
        raise UserError(f"{weights_path} does not hold the weights that {config_path} describes ({missing[0]}).")
    generator = BigGANDeep(_fold_spectral_norm(model), name, truncation)
    generator.sha256 = sha256_of(weights_path)
    return generator


def _find(folder: Path, name: str, file: str) -> Path:
    for candidate in (folder / file, folder / f"{name}-{file}"):
        if candidate.is_file():
            return candidate
    raise UserError(f"{folder} holds no {file}: --weights needs a folder with {CONFIG} and {WEIGHTS} of {name}.")


def _build(path: Path, name: str) -> package.BigGAN:
    """The model that a config.json describes, with random weights."""
    description = read_json(path)
    try:
        config = package.BigGANConfig.from_dict(description)
        side = 4 * 2 ** sum(bool(upsample) for upsample, _, _ in config.layers)
        if not name.endswith(f"-{side}") or side != config.output_dim:
            raise UserError(f"{path} describes a {side} px model, but {name} was asked for: give that one's folder.")
        return package.BigGAN(config)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not the config.json of a BigGAN-deep ({reason_of(error)}).") from None


def _fold_spectral_norm(model: package.BigGAN) -> package.BigGAN:
    """Divides every weight by its spectral norm once, not at every call. Results in evaluation mode are the same."""
    model.eval()
    for module in model.modules():
        if hasattr(module, "weight_orig"):
            nn.utils.remove_spectral_norm(module)
    return model


def _statistics(norm: BigGANBatchNorm, truncation: float) -> tuple[Tensor, Tensor]:
    """Returns mean and variance for a truncation, exactly as the package does.

    Between two measured truncations the package mixes both, the nearer one with the smaller weight. For five of the 50
    measured ones (.14, .28, .56, .58, .94) it takes a neighbour, because the division is rounded.
    """
    share, index = math.modf(truncation / norm.step_size)
    first = int(index)
    if not share:
        return norm.running_means[first], norm.running_vars[first]
    mean, variance = (
        values[first] * share + values[first + 1] * (1 - share) for values in (norm.running_means, norm.running_vars)
    )
    return mean, variance


def _last_norm(norm: BigGANBatchNorm, truncation: float) -> nn.BatchNorm2d:
    """The package's last norm, which has no condition."""
    ours = nn.BatchNorm2d(norm.num_features, eps=norm.eps)
    ours.running_mean, ours.running_var = _statistics(norm, truncation)
    ours.weight, ours.bias = norm.weight, norm.bias
    return ours


def _attention(attention: SelfAttn) -> SelfAttention:
    """The package's self-attention as ours."""
    ours = SelfAttention(attention.in_channels)
    ours.query, ours.key, ours.value = attention.snconv1x1_theta, attention.snconv1x1_phi, attention.snconv1x1_g
    ours.output, ours.scale = attention.snconv1x1_o_conv, nn.Parameter(attention.gamma.detach().squeeze())
    return ours


def _upsampled_convolution(convolution: nn.Conv2d) -> UpsampledConv2d:
    ours = UpsampledConv2d(convolution.in_channels, convolution.out_channels)
    ours.weight, ours.bias = convolution.weight, convolution.bias
    return ours


def _convolution(convolution: nn.Conv2d, outputs: int) -> nn.Conv2d:
    """Keeps only the first outputs of a 3x3 convolution."""
    ours = nn.Conv2d(convolution.in_channels, outputs, 3, padding=1)
    ours.weight = nn.Parameter(convolution.weight[:outputs].detach())
    ours.bias = nn.Parameter(convolution.bias[:outputs].detach())  # type: ignore[index]
    return ours


def _class_names(count: int) -> tuple[str, ...]:
    """The ImageNet classes, or numbers for a model of other classes."""
    names = imagenet.class_names()
    return names if count == len(names) else tuple(str(index) for index in range(count))
