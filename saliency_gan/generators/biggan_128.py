"""The ImageNet generator of the public BigGAN-PyTorch (github.com/ajbrock/BigGAN-PyTorch, `G_ema.pth`) as a `BigGAN`.

Voynov & Babenko (2020) searched this network for directions. The public code keeps spectral norm in the generator:
every convolution and linear layer divides its weight by an estimate of its largest singular value. In evaluation mode,
this estimate depends only on the saved tensors. So the division is done once, when the file is loaded.
"""

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.generators import imagenet
from saliency_gan.generators.biggan import BIGGAN_128, BigGAN, BigGANArchitecture
from saliency_gan.generators.checkpoints import read_checkpoint
from saliency_gan.storage.files import sha256_of

PUBLIC_FILE = "G_ema.pth"

SN_EPSILON = 1e-6
"""Smallest divisor in the power iteration, as in the training settings of the network."""

RENAMES = (
    (r"^embedding\.", "shared."),
    (r"^first\.", "linear."),
    (r"^blocks\.(\d+)\.", r"blocks.\1.0."),
    (r"\.norm([12])\.", r".bn\1."),
    (r"\.shortcut\.", ".conv_sc."),
    (r"^last_norm\.weight$", "output_layer.0.gain"),
    (r"^last_norm\.", "output_layer.0."),
    (r"^last\.", "output_layer.2."),
    (r"(\.norm)?\.running_", ".stored_"),
    (r"\.query\.", ".theta."),
    (r"\.key\.", ".phi."),
    (r"\.value\.", ".g."),
    (r"\.output\.", ".o."),
    (r"\.scale$", ".gamma"),
)
"""Replacements that turn our tensor names into the public ones. They are applied in this order."""


def load_biggan_128(name: str, weights: Path, architecture: BigGANArchitecture = BIGGAN_128) -> BigGAN:
    """Loads a file in the format of BigGAN-PyTorch.

    Args:
        name: Name in the zoo.
        weights: The file, or the folder that holds it as PUBLIC_FILE.
        architecture: Architecture that the file has to match.

    Raises:
        UserError: If the file is missing or damaged, or any tensor is missing, unknown or of another shape.
    """
    path = weights / PUBLIC_FILE if weights.is_dir() else weights
    class_names = imagenet.class_names() if architecture.num_classes == 1000 else None
    with torch.device("meta"):
        generator = BigGAN(architecture, name, class_names)
    state = read_checkpoint(path, public_shapes(generator), name)
    tensors = {}
    for ours, theirs in _public_names(generator).items():
        first_vector = state.get(theirs.removesuffix("weight") + "u0")
        tensors[ours] = state[theirs].float() if first_vector is None else _divide_by_norm(state[theirs], first_vector)
    for ours in generator.state_dict():
        tensors.setdefault(ours, torch.tensor(0))  # counters of training batches, not needed any more
    generator.load_state_dict(tensors, assign=True)
    generator.sha256 = sha256_of(path)
    return generator


def public_shapes(generator: BigGAN) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a public file for this architecture."""
    state = generator.state_dict()
    shapes = {theirs: tuple(state[ours].shape) for ours, theirs in _public_names(generator).items()}
    for module_name, module in generator.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prefix = _public_name(f"{module_name}.weight", generator).removesuffix("weight")
            shapes |= {f"{prefix}u0": (1, len(module.weight)), f"{prefix}sv0": (1,)}
    return shapes


def _public_names(generator: BigGAN) -> dict[str, str]:
    """Our name -> public name of every tensor, without the batch counters, which the public code does not have."""
    names = [ours for ours in generator.state_dict() if not ours.endswith("num_batches_tracked")]
    return {ours: _public_name(ours, generator) for ours in names}


def _public_name(ours: str, generator: BigGAN) -> str:
    """For example blocks.2.norm1.gain.weight -> blocks.2.0.bn1.gain.weight, attention.64.key -> blocks.3.1.phi."""
    for pattern, replacement in RENAMES:
        ours = re.sub(pattern, replacement, ours)
    for index, side in enumerate(generator.architecture.block_sides):
        ours = ours.replace(f"attention.{side}.", f"blocks.{index}.1.")
    return ours


def _divide_by_norm(weight: Tensor, first_vector: Tensor) -> Tensor:
    """Divides a weight by its spectral norm as the public code estimates it: one step of the power iteration.

    Args:
        weight: Float [outputs, ...].
        first_vector: u0, float [1, outputs], an estimate of the first left singular vector.
    """
    matrix = weight.flatten(1).double()
    right = F.normalize(first_vector.double() @ matrix, eps=SN_EPSILON)
    left = F.normalize(right @ matrix.T, eps=SN_EPSILON)
    return (weight / (right @ matrix.T @ left.T).squeeze()).float()
