"""The device of a stage, its precision and its peak memory."""

import warnings
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed
from torch import Tensor

from saliency_gan.compute import processes
from saliency_gan.compute.types import Device, Precision
from saliency_gan.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def pick_device(device: Device, shared: bool = False) -> torch.device:
    """Turns `auto` into CUDA, MPS or CPU, in this order. Under torchrun every process of a machine has its own GPU.

    Args:
        device: The name.
        shared: Whether several processes may share a GPU. They cannot if they exchange gradients.

    Raises:
        UserError: If this machine does not have the requested device, or has fewer of them than processes.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if device not in available:
        raise UserError(f"There is no device {device}: give auto, cpu, cuda or mps.")
    if not available[device]:
        raise UserError(f"--device {device} was asked for, but torch {torch.__version__} finds none: use --device cpu.")
    if processes.world_size() == 1 or device == "cpu":
        return torch.device(device)
    count = torch.cuda.device_count() if device == "cuda" else 1
    if processes.local_world_size() > count and not shared:
        raise UserError(
            f"torchrun started {processes.local_world_size()} processes on a machine with {count} of the device"
            f" {device}: give --nproc-per-node {count} to torchrun, or --device cpu."
        )
    return torch.device(device, processes.local_rank() % count)


def pick_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Turns `auto` into bf16 if the hardware supports it, else into fp32.

    A CPU without AVX512-BF16 emulates bf16. This is ten times slower than fp32, and much slower still for the gradients
    of convolutions.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # older releases of torch cannot tell
        native = device.type == "cpu" and hasattr(torch.cpu, "get_capabilities")
        native = native and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bf16" if native else "fp32"


def make_fabric(device: Device, precision: Precision, shared: bool = False) -> "Fabric":
    """Lightning Fabric with one device per process; bf16 means automatic mixed precision.

    Under torchrun, modules that `fabric.setup` returns average their gradients over the processes, unless the device is
    `shared`, see `pick_device`.
    """
    # Importing it takes as long as predicting fifty photos, and prediction does not need it.
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    chosen = pick_device(device, shared)
    mixed = pick_precision(precision, chosen) == "bf16"
    processes.join()
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # older torch knows only this name
    build = partial(Fabric, accelerator=chosen.type, precision="bf16-mixed" if mixed else "32-true")
    if shared or processes.world_size() == 1:
        fabric = build(devices=1 if chosen.index is None else [chosen.index])
    else:
        local = processes.local_world_size()
        fabric = build(
            devices=local,
            num_nodes=processes.world_size() // local,
            # The only buffers are those of batch_norm.synchronise, which are the same in all processes.
            strategy=DDPStrategy(broadcast_buffers=False),
        )
    fabric.launch()
    return fabric


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of `value` over the processes, without gradients; `value` itself without torchrun."""
    if processes.world_size() == 1:
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / processes.world_size()


def peak_memory(device: torch.device) -> str:
    """The peak memory of this process so far, as a sentence."""
    if device.type == "cuda":
        used, kind = torch.cuda.max_memory_allocated(device), "GPU memory"
    else:
        import sys

        try:
            import resource
        except ImportError:  # Windows
            return "How much memory a training step takes is not known on this system."
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        kind = "memory, that of the program and its data included"
    return f"A training step takes up to {used / 1e9:.2f} GB of {kind}."
