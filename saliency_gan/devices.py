"""Where a stage computes, and in which precision."""

from typing import Literal

import torch
from lightning.fabric import Fabric

from saliency_gan.config import Device, Precision
from saliency_gan.errors import UserError


def pick_device(device: Device) -> torch.device:
    """Turns `auto` into CUDA, MPS or CPU, in this order.

    Raises:
        UserError: If a device is asked for that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[device]:
        raise UserError(f"--device {device} was asked for, but torch {torch.__version__} finds none: use --device cpu.")
    return torch.device(device)


def pick_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Turns `auto` into bf16 where the hardware computes in it, and into fp32 elsewhere.

    A CPU without AVX512-BF16 emulates bf16, ten times slower than fp32 and, in a convolution's gradient, far more.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # older releases of torch cannot tell
        native = device.type == "cpu" and hasattr(torch.cpu, "get_capabilities")
        native = native and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bf16" if native else "fp32"


def make_fabric(device: Device, precision: Precision) -> Fabric:
    """Lightning Fabric on one device; bf16 means automatic mixed precision."""
    chosen = pick_device(device)
    mixed = pick_precision(precision, chosen) == "bf16"
    fabric = Fabric(accelerator=chosen.type, devices=1, precision="bf16-mixed" if mixed else "32-true")
    fabric.launch()
    return fabric
