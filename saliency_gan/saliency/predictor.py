"""From a photo to its saliency map."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from saliency_gan.config import Device, Precision
from saliency_gan.devices import pick_device, pick_precision
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray, read_image, to_rgb, to_signed
from saliency_gan.saliency.model import SaliencyModel, load_model

SaliencyMap = NDArray[np.float32]
STRIDE = 32
"""Networks of any depth accept sides that are multiples of this."""


def load_saliency_model(path: Path | str | None = None, device: Device = "auto") -> "Predictor":
    """Loads a saliency model, ready to mark photos.

    Example:
        >>> saliency = load_saliency_model().predict("photo.jpg")  # doctest: +SKIP

    Args:
        path: model.safetensors of train-saliency or adapt, or its folder; None takes the bundled model.
        device: auto takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UserError: If a file is missing, damaged, or not of a saliency model, or the device does not exist.
    """
    return Predictor(load_model(None if path is None else Path(path)), pick_device(device))


class Predictor:
    """Marks what stands out in photos of any size and shape.

    A photo is squeezed into a square of the model's resolution, as benchmarks of the field do, marked once for every
    scale and once more mirrored; the mean of these views is stretched back to the photo's size.

    Args:
        model: The model; it is moved to `device` and frozen.
        device: Where to compute.
        resolution: Side in pixels of the square that the model sees; None takes the one it was trained on.
        scales: Factors of the resolution at which a photo is seen; each gives a multiple of 32 pixels, once.
        flip: Look at the mirrored photo too.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.

    Raises:
        UserError: If resolution or a scale is not positive.
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
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.resolution = model.architecture.resolution if resolution is None else resolution
        if self.resolution < 1 or not scales or min(scales) <= 0:
            raise UserError(f"Resolution {resolution} and scales {tuple(scales)} have to be above 0.")
        sides = (max(STRIDE, round(self.resolution * scale / STRIDE) * STRIDE) for scale in scales)
        self.sides = tuple(dict.fromkeys(sides))
        self.flip = flip
        self.mixed = pick_precision(precision, device) == "bf16"

    def predict(self, image: ImageArray | Image.Image | Path | str) -> SaliencyMap:
        """Computes the saliency map of one photo.

        Args:
            image: RGB as uint8 [H, W, 3], a Pillow image of any mode, or the path of an image file.

        Returns:
            float32 [H, W] in [0, 1]: how likely each pixel belongs to what stands out.

        Raises:
            UserError: If it is none of these, or the file cannot be read.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[ImageArray | Image.Image | Path | str]) -> list[SaliencyMap]:
        """Computes the saliency maps of several photos, which may differ in size, at once; as `predict`."""
        if not images:
            return []
        arrays = [_as_array(image) for image in images]
        maps = self.mark([self.squeeze(array) for array in arrays])
        return [stretch(map_, array.shape[:2]) for map_, array in zip(maps, arrays, strict=True)]

    def squeeze(self, image: ImageArray) -> tuple[ImageArray, ...]:
        """Resizes a photo, uint8 [H, W, 3], to one square a scale."""
        return tuple(resize(image, side) for side in self.sides)

    def mark(self, photos: Sequence[tuple[ImageArray, ...]]) -> SaliencyMap:
        """Computes maps of squeezed photos, float32 [N, side, side] in [0, 1] at the largest scale."""
        return self.views(photos).mean(axis=0)

    @torch.inference_mode()
    def views(self, photos: Sequence[tuple[ImageArray, ...]]) -> SaliencyMap:
        """Computes a map a scale and flip of squeezed photos, float32 [views, N, side, side] at the largest scale."""
        side = max(self.sides)
        views = []
        for squares in zip(*photos, strict=True):
            seen = to_signed(np.stack(squares)).to(self.device, memory_format=torch.channels_last)
            for flipped in (False, True)[: 1 + self.flip]:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                    logits = self.model(seen.flip(3) if flipped else seen)
                saliency = logits.flip(3) if flipped else logits
                saliency = torch.nn.functional.interpolate(saliency.sigmoid(), size=(side, side), mode="bilinear")
                views.append(saliency[:, 0].cpu().numpy())
        return np.stack(views)


def stretch(saliency: SaliencyMap, size: tuple[int, ...]) -> SaliencyMap:
    """Resizes a map bilinearly to (height, width); the result stays in [0, 1]."""
    height, width = size
    return cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def resize(image: ImageArray, side: int) -> ImageArray:
    """Squeezes an image, uint8 [H, W, 3], into a square; every pixel counts where it shrinks."""
    method = cv2.INTER_AREA if min(image.shape[:2]) >= side else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method)  # type: ignore[return-value]


def _as_array(image: ImageArray | Image.Image | Path | str) -> ImageArray:
    if isinstance(image, Path | str):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size
    ):
        return image
    given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"An image has to be RGB as uint8 [H, W, 3], a Pillow image or a path, not {given}.")
