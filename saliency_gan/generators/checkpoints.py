"""Other people's checkpoints: state dicts that have to hold exactly the tensors that the public code defines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from saliency_gan.errors import UserError
from saliency_gan.runs import load_torch


def read_checkpoint(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str) -> dict[str, Tensor]:
    """Reads a state dict without executing any pickled code, and refuses it unless it is exactly what is expected.

    Args:
        path: The file.
        shapes: Name and shape of every tensor.
        name: The generator that it is for, for messages.

    Raises:
        UserError: If the file is missing or damaged, or any tensor is missing, unknown or of another shape.
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
    found = tuple(state[key].shape) if isinstance(state[key], Tensor) else type(state[key]).__name__
    return "" if found == shapes[key] else f"{key} is {found}, not {shapes[key]}"
