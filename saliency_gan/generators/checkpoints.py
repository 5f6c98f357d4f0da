"""Reads public checkpoints: state dicts that must hold exactly the tensors that the public code defines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency_gan.errors import UserError
from saliency_gan.storage.torch_files import load_torch


def read_checkpoint(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str) -> dict[str, Tensor]:
    """Reads a state dict without executing any pickled code, and checks that it holds exactly the expected tensors.

    Args:
        path: The file.
        shapes: Name and shape of every expected tensor.
        name: Name of the generator, for error messages.

    Raises:
        UserError: If the file is missing or damaged, or any tensor is missing, unknown, of another shape or not finite.
    """
    state = load_torch(path)
    for key in (*shapes, *state):
        if difference := _difference(key, state, shapes):
            raise UserError(
                f"{path} does not hold the weights of {name} ({difference}):"
                " give the file that docs/generators.md names."
            )
    return state


def _difference(key: str, state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What is wrong with a tensor; "" if nothing is."""
    if key not in state:
        return f"{key} is missing"
    if key not in shapes:
        return f"{key} is not one of its {len(shapes)} tensors"
    tensor = state[key]
    found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
    if found != shapes[key]:
        return f"{key} is {found}, not {shapes[key]}"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        return f"{key} is not a plain tensor of numbers"
    return "" if torch.isfinite(tensor).all() else f"{key} holds values that are not finite"
