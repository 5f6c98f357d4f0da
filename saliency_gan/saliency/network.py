"""Builds the networks of segmentation-models-pytorch for saliency models."""

import difflib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saliency_gan.config.checks import LARGEST_RESOLUTION
from saliency_gan.encoders.library import BatchNormAct2d, smp
from saliency_gan.encoders.pretrained import encoder_names, simplify, weights_to_download
from saliency_gan.errors import StageError, UserError, reason_of


@dataclass(frozen=True)
class SaliencyArchitecture:
    """The sizes that are needed to build a saliency model before its weights are read.

    Attributes:
        architecture: Decoder of segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, ...
        encoder: Encoder of segmentation-models-pytorch.
        decoder_channels: Channels of the decoder, coarsest first, one number for every halving that the encoder does;
            () takes the library's default.
        outputs: 1 logit, or the paper's 2 of background and foreground.
        resolution: Side in pixels of the squares that the model was trained on.
        output_stride: The decoder of a Unet ends at the resolution divided by this (1, 2 or 4), and its map is
            enlarged; decoder_channels then has fewer numbers.
        encoder_norms: Whether the encoder has batch norms. If not, they are folded into its convolutions, with the
            statistics of the initial weights.
    """

    architecture: str = "Unet"
    encoder: str = "resnet18"
    decoder_channels: tuple[int, ...] = (128, 64, 32, 16)
    outputs: Literal[1, 2] = 1
    resolution: int = 64
    output_stride: Literal[1, 2, 4] = 1
    encoder_norms: bool = True

    def __post_init__(self) -> None:
        if not 32 <= self.resolution <= LARGEST_RESOLUTION or self.resolution % 32:
            raise UserError(
                f"resolution is {self.resolution} px, but has to be a multiple of 32 and at most {LARGEST_RESOLUTION}:"
                " choose 64, 96 or 128."
            )
        if self.outputs not in (1, 2):
            raise UserError(f"outputs is {self.outputs}, but a saliency model has 1 logit or the paper's 2.")
        if self.output_stride not in (1, 2, 4):
            raise UserError(f"output_stride is {self.output_stride}, but has to be 1, 2 or 4.")
        if self.output_stride > 1 and (self.architecture.lower() != "unet" or not self.decoder_channels):
            raise UserError(
                f"output_stride {self.output_stride} needs --architecture Unet and --decoder_channels with a number for"
                " each of its blocks."
            )


def build_network(architecture: SaliencyArchitecture, encoder_weights: str, stored: Container[str] = ()) -> nn.Module:
    """Builds a network without the layers that it never uses.

    Args:
        architecture: Sizes of everything.
        encoder_weights: none or imagenet; weights of an installed package are not loaded here.
        stored: Names of the tensors that will be loaded from a file. If there are any, the network gets the layers of
            these tensors, and no forward pass finds out which layers it needs.

    Returns:
        The network: float [N, 3, H, W] -> logits [N, outputs, H, W].

    Raises:
        UserError: If the library has no such network.
        StageError: If the encoder's weights cannot be downloaded.
    """
    # PAN needs maps of 128 px or more, and layers are tried out at 64 px.
    _check_name("architecture", architecture.architecture.lower(), smp.MODEL_ARCHITECTURES_MAPPING.keys() - {"pan"})
    _check_name("encoder", architecture.encoder, encoder_names())
    channels = list(architecture.decoder_channels)
    unused = [1] * (architecture.output_stride.bit_length() - 1)  # channels of the blocks that _end_early removes
    sizes = {"encoder_depth": len(channels + unused), "decoder_channels": channels + unused} if channels else {}
    try:
        network = smp.create_model(
            architecture.architecture,
            architecture.encoder,
            encoder_weights=weights_to_download(architecture.encoder, encoder_weights),
            classes=architecture.outputs,
            **sizes,
        )
        simplify(network.encoder)
        if architecture.output_stride > 1:
            _end_early(network, channels[-1], architecture)
        if stored:
            _drop_missing_layers(network, stored)
        else:
            _drop_unused_layers(network)
    except OSError as error:
        raise StageError(
            f"The {encoder_weights} weights of {architecture.encoder} could not be downloaded ({reason_of(error)}):"
            " try again later, or start at random with --encoder-weights none."
        ) from None
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = reason_of(error)
        raise UserError(
            f"{architecture.architecture} with encoder {architecture.encoder} and decoder_channels {channels} cannot be"
            f" built ({reason}): try --decoder-channels '[]'."
        ) from None
    return network


def _end_early(network: Any, channels: int, architecture: SaliencyArchitecture) -> None:
    """Removes the last blocks of a U-Net's decoder. The new head enlarges the maps of the last remaining block."""
    network.decoder.blocks = network.decoder.blocks[: len(architecture.decoder_channels)]
    network.segmentation_head = nn.Sequential(
        nn.Conv2d(channels, architecture.outputs, 3, padding=1),
        nn.Upsample(scale_factor=architecture.output_stride, mode="bilinear"),
    )


def _drop_unused_layers(network: smp.base.SegmentationModel) -> None:
    """Removes children of the encoder that a forward pass never uses, for example ResNet's last stage at depth 4."""
    entered: set[nn.Module] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: entered.add(module)) for module in network.encoder.modules()
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 64, 64))
    network.train()
    for hook in hooks:
        hook.remove()
    for name, child in list(network.encoder.named_children()):
        if not entered.intersection(child.modules()):
            delattr(network.encoder, name)


def _drop_missing_layers(network: smp.base.SegmentationModel, stored: Container[str]) -> None:
    """Removes layers of the encoder that a saved model did not have: unused ones, and norms that were folded.

    Args:
        network: The network, which is changed in place.
        stored: Names of the saved model's tensors.
    """
    for path, parent in list(network.encoder.named_modules(prefix="network.encoder")):
        for name, child in list(parent.named_children()):
            tensors = [f"{path}.{name}.{one}" for one in child.state_dict()]
            missing = tensors and not any(one in stored for one in tensors)
            if missing and isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, child.act if isinstance(child, BatchNormAct2d) else nn.Identity())
            elif missing and parent is network.encoder:
                delattr(parent, name)
            elif isinstance(child, nn.Conv2d) and child.bias is None and f"{path}.{name}.bias" in stored:
                child.bias = nn.Parameter(torch.empty(child.out_channels))


def _check_name(kind: str, name: str, known: Any) -> None:
    if name not in known:
        near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.0)[0]
        raise UserError(f"There is no {kind} {name!r} here: did you mean {near!r}?")


class WithoutWeights(TorchFunctionMode):
    """Leaves out initial weights, which would import torch's compiler on the meta device; sizes are still computed."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if getattr(function, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"]
        if function is torch.linspace:  # some encoders take the settings of their blocks from its values
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)
