"""Writes arrays as image files."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.images.density import Density, with_density
from saliency_gan.storage.files import write_bytes

LONGEST_SIDE = {".jpg": 65_500, ".jpeg": 65_500, ".png": 1_000_000}
"""Suffix -> longest side in pixels that its library writes."""


def encode(
    image: NDArray[np.uint8] | NDArray[np.uint16],
    suffix: str = ".png",
    quality: int = 95,
    density: Density | None = None,
) -> bytes:
    """Encodes [H, W], [H, W, 3] RGB or [H, W, 4] RGBA as PNG or JPEG bytes, with dots per inch if given.

    Raises:
        ValueError: If a side is longer than LONGEST_SIDE.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    done, encoded = cv2.imencode(suffix, image, options)
    if not done:
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} px cannot be written as {suffix}")
    data = encoded.tobytes()
    return with_density(data, density) if density else data


def write_image(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16], density: Density | None = None) -> None:
    """Writes an image atomically; the suffix of `path` chooses PNG or JPEG."""
    write_bytes(path, encode(image, path.suffix.lower(), density=density))
