"""Reads torch files without running pickled code."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from saliency_gan.errors import UserError


def load_torch(path: Path) -> dict[str, Any]:
    """Reads a torch file onto the CPU without executing any pickled code.

    Raises:
        UserError: If it cannot be read that way.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the protocol of a pickle that is refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is damaged or holds pickled objects besides tensors, which are never run:"
            " delete it or give another one."
        ) from None
    except Exception as error:  # what torch raises depends on where the damage is
        reason = (str(error).partition(".")[0].splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged or no tensor file ({reason}): delete it or give another one.") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} should hold a dictionary of tensors, but holds a {type(state).__name__}.")
    return state
