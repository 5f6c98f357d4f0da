"""Folds batch norms in evaluation mode into the convolutions before them, which saves a pass over every feature map."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from saliency_gan.encoders.library import BatchNormAct2d


@torch.no_grad()
def fold_norms(module: nn.Module, forward: Callable[[], object]) -> None:
    """Folds every batch norm into the convolution before it: w' = w g / s and b' = (b - m) g / s + o.

    Here m and s are the norm's running mean and standard deviation, g and o its scale and offset. The module computes
    the same as before in evaluation mode, also while it is trained.

    Args:
        module: The network, which is changed in place. Its batch norms become `nn.Identity`, or the activation if
            timm's norm includes one.
        forward: Runs the network once, in evaluation mode, to show which convolution each norm follows.
    """
    convolutions = _normalised_convolutions(module, forward)
    for norm, convolution in convolutions.items():
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,  # type: ignore[arg-type]
            norm.running_var,  # type: ignore[arg-type]
            norm.eps,
            norm.weight,
            norm.bias,
        )
        convolution.bias.requires_grad_(convolution.weight.requires_grad)  # torch's function leaves a new bias frozen
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if child in convolutions:
                setattr(parent, name, child.act if isinstance(child, BatchNormAct2d) else nn.Identity())


def _normalised_convolutions(module: nn.Module, forward: Callable[[], object]) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Batch norm -> the convolution whose output is its input."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # keeps the tensors, or new ones could get their ids
    found = {}

    def remember(convolution: nn.Conv2d, _: object, output: Tensor) -> None:
        made[id(output)] = convolution, output

    def look_up(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made:
            found[norm] = made[id(inputs[0])][0]

    hooks = [one.register_forward_hook(remember) for one in module.modules() if isinstance(one, nn.Conv2d)]
    hooks += [one.register_forward_pre_hook(look_up) for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    forward()
    for hook in hooks:
        hook.remove()
    return found
