"""Saliency maps of photos, computed by torch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock

import torch

from saliency_gan.compute.devices import pick_device, pick_precision
from saliency_gan.config import Device, Precision
from saliency_gan.images import ImageArray
from saliency_gan.images.tensors import to_signed
from saliency_gan.saliency.folding import fold
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.photo_predictor import STRIDE, PhotoPredictor, SaliencyMap, resize, stretch

__all__ = ["STRIDE", "Predictor", "SaliencyMap", "TorchNetwork", "load_saliency_model", "resize", "stretch"]


def load_saliency_model(path: Path | str | None = None, device: Device = "auto") -> "Predictor":
    """Loads a saliency model, ready to use on photos.

    Example:
        >>> saliency = load_saliency_model().predict("photo.jpg")  # doctest: +SKIP

    Args:
        path: model.safetensors of train-saliency, train-student or adapt, or its folder; None takes the bundled model.
        device: auto takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UserError: If a file is missing, damaged, or not of a saliency model, or the device does not exist.
    """
    return Predictor(load_model(None if path is None else Path(path)), pick_device(device, shared=True))


class Predictor(PhotoPredictor):
    """Computes saliency maps of photos with a torch model.

    Args:
        model: The model; it is moved to `device` and frozen.
        device: Where to compute.
        resolution: As for `PhotoPredictor`, like `scales` and `flip`.
        scales: Factors of the resolution.
        flip: Also use the mirrored photo.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 if the hardware supports it.

    Raises:
        UserError: If resolution is below 32 px or a scale is not positive.
    """

    def __init__(
        self,
        model: SaliencyModel,
        device: torch.device,
        resolution: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = True,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(TorchNetwork(model, device, precision), resolution, scales, flip)


class TorchNetwork:
    """A `photo_predictor.Network` that uses torch.

    Args:
        model: The model; it is moved to `device` and frozen.
        device: Where to compute.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 if the hardware supports it.
    """

    def __init__(self, model: SaliencyModel, device: torch.device, precision: Precision = "fp32") -> None:
        self.model = fold(model.to(device).eval().requires_grad_(False))
        self.device = device
        self.resolution = model.architecture.resolution
        self.mixed = pick_precision(precision, device) == "bf16"
        # Several threads with batches on one GPU at once would only need more GPU memory.
        self._turn: AbstractContextManager[object] = nullcontext() if device.type == "cpu" else Lock()

    @torch.inference_mode()
    def maps(self, squares: ImageArray) -> SaliencyMap:
        """Computes saliency in [0, 1], float32 [N, H, W], of uint8 [N, H, W, 3]; H and W are multiples of 32."""
        with self._turn, torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            seen = to_signed(squares, self.device).contiguous(memory_format=torch.channels_last)
            return self.model(seen).sigmoid()[:, 0].cpu().numpy()
