"""Reads torch files without running pickled code."""

import errno
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from saliency_gan.compute.failures import OUT_OF_MEMORY
from saliency_gan.errors import UserError, reason_of


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
        reason = reason_of(error)
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a file that is cut causes EINVAL
            raise UserError(f"{path} cannot be read ({reason}): look at its permissions and its disk.") from None
        if isinstance(error, MemoryError) or re.search(OUT_OF_MEMORY, str(error), re.IGNORECASE):
            raise UserError(f"{path} does not fit into the free memory ({reason}): free some and try again.") from None
        raise UserError(f"{path} is damaged or no tensor file ({reason}): delete it or give another one.") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} should hold a dictionary of tensors, but holds a {type(state).__name__}.")
    return state
