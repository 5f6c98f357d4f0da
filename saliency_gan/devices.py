"""Where a stage computes, and in which precision."""

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


def make_fabric(device: Device, precision: Precision) -> Fabric:
    """Lightning Fabric on one device; bf16 means automatic mixed precision."""
    fabric = Fabric(
        accelerator=pick_device(device).type, devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true"
    )
    fabric.launch()
    return fabric
