"""Turns failures of the machine into errors that say what to change."""

import re
from typing import Any

from saliency_gan.compute.processes import lost_process, world_size
from saliency_gan.errors import StageError

OUT_OF_MEMORY = r"can't allocate memory|out of memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED"
LOST_PROCESS = r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|process group"


def explain(error: BaseException | None, config: Any) -> StageError | None:
    """Returns an error that says which settings to change; None if the exception needs no explanation.

    Args:
        error: The exception that ended the stage; None if there was none.
        config: The stage's settings.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return _out_of_memory(config)
    if isinstance(error, ValueError) and str(error).startswith("Expected more than 1 value per channel"):
        return StageError(
            "Batch normalisation needs more than one value in each part of a batch: raise --batch or --resolution, or"
            " lower --accumulate."
        )
    if isinstance(error, RuntimeError):
        text = str(error)
        if re.search(OUT_OF_MEMORY, text, re.IGNORECASE):
            return _out_of_memory(config)
        if text.startswith("DataLoader worker"):
            return StageError(
                "A process that augments was killed, perhaps for lack of memory: run the command again, which goes on"
                " from what was saved, or do it in the main process with --workers 0."
            )
        if world_size() > 1 and re.search(LOST_PROCESS, text):
            return lost_process(error)
        if getattr(config, "compile", False) and re.search(r"torch\._(dynamo|inductor)", str(type(error))):
            reason = " ".join(text.split())[:160]
            return StageError(f"The networks could not be compiled ({reason}): leave --compile out.")
    return None


def _out_of_memory(config: Any) -> StageError:
    """Names first the settings that may change when a run is continued, then those that need a new folder."""
    accumulate = getattr(config, "accumulate", None)
    advice = []
    if accumulate:
        advice.append(f"do it in more parts with --accumulate {2 * accumulate}")
    if world_size() == 1 and accumulate:
        advice.append("spread it over more devices with torchrun")
    sizes = {name: getattr(config, name, None) for name in ("batch", "resolution")}
    least = {"batch": 1, "resolution": 32}
    anew = [f"--{name} below {value}" for name, value in sizes.items() if value and value > least[name]]
    if getattr(config, "precision", "auto") == "fp32" and getattr(config, "runtime", "torch") == "torch":
        anew.insert(0, "--precision bf16")
    if anew:
        advice.append(f"{'begin anew in another --run with' if accumulate else 'give'} {' or '.join(anew)}")
    what = f"a batch of {sizes['batch']}" if sizes["batch"] else "this"
    return StageError(f"The memory is too small for {what}: {', or '.join(advice) or 'free some memory'}.")
