"""Masks and maps from image files: either the grey values or the alpha."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saliency_gan.images import ImageArray
from saliency_gan.images.colour import deep_to_8_bit, has_alpha, is_deep, upright


def to_grey(image: Image.Image) -> NDArray[np.uint8]:
    """Converts a Pillow image of any mode to uint8 [H, W], as `images.reading.read_mask` does.

    Raises:
        ValueError: If both its grey values and its alpha could be the mask.
    """
    if is_deep(image):
        values = np.asarray(image)
        is_of_0_and_1 = image.mode != "F" and values.min() >= 0 and values.max() <= 1
        return np.asarray(upright(image)).astype(np.uint8) if is_of_0_and_1 else deep_to_8_bit(image)
    image = upright(image)
    if has_alpha(image):
        rgba = np.array(image.convert("RGBA"))
        return rgba[:, :, 3] if _alpha_is_meant(rgba) else _grey(rgba[:, :, :3])
    return _grey(np.array(image.convert("RGB")))


def _alpha_is_meant(rgba: ImageArray) -> bool:
    alpha = rgba[:, :, 3]
    seen = rgba[alpha > 0][:, :3]
    if len(seen) and alpha.min() == alpha.max():
        return False
    has_one_colour = not len(seen) or (seen == seen[0]).all()
    is_coloured = (seen != seen[:, :1]).any()
    if not (has_one_colour or is_coloured):
        raise ValueError("it has grey values and is transparent in parts: save it without one of them")
    return True


def _grey(rgb: ImageArray) -> NDArray[np.uint8]:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]
