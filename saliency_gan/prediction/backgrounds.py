"""Backgrounds of cut-outs: none, a colour, another image, or the photo itself, blurred."""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import shrink
from saliency_gan.images.reading import read_image
from saliency_gan.prediction.marked_photo import MarkedPhoto
from saliency_gan.prediction.strips import Stretched

Rows = Callable[[slice], NDArray[np.float32]]
"""Returns some rows of a background, float32 [rows, W, 3] (or a shape that broadcasts to it) in [0, 255]."""

BLUR_SIDE = 256
BLUR_SIGMA = 6.0
"""Standard deviation of the blur in pixels of a photo that is shrunk to BLUR_SIDE; about 2 % of the photo's side."""
LEAST_WEIGHT = 1e-3


class Background:
    """A background.

    Args:
        name: transparent, white, blur, #RRGGBB, or the path of an image, which is scaled to cover the photo.

    Attributes:
        transparent: Whether there is no background; cut-outs then have an alpha channel.

    Raises:
        UserError: If it is none of these, or the image cannot be read.
    """

    def __init__(self, name: str) -> None:
        self.transparent = name == "transparent"
        self.behind: Callable[[MarkedPhoto], Rows]
        if name == "blur":
            self.behind = _blurred
            return
        if self.transparent or name == "white":
            colour: tuple[int, ...] = (255, 255, 255)
        elif name.startswith("#"):
            colour = _parse_colour(name)
        else:
            covering = lru_cache(maxsize=1)(partial(_covering, _read(name)))  # all frames of a video have one size
            self.behind = lambda photo: covering(*photo.image.shape[:2])
            return
        self.behind = lambda photo: lambda rows: np.array(colour, np.float32)


def _parse_colour(name: str) -> tuple[int, ...]:
    if not re.fullmatch("#[0-9a-fA-F]{6}", name):
        raise UserError(f"background is {name}, but a colour has to be # and six hexadecimal digits, say '#204060'.")
    return tuple(bytes.fromhex(name[1:]))


def _read(name: str) -> ImageArray:
    path = Path(name)
    if not path.is_file():
        raise UserError(
            f"background is {name}, which is no file: give transparent, white, blur, a colour such as '#204060',"
            " or the path of an image."
        )
    return read_image(path)


def _covering(image: ImageArray, height: int, width: int) -> Rows:
    """The largest centre crop of the image with this aspect ratio, resized to this size."""
    scale = max(height / image.shape[0], width / image.shape[1])
    part_height = min(image.shape[0], max(1, round(height / scale)))
    part_width = min(image.shape[1], max(1, round(width / scale)))
    top, left = (image.shape[0] - part_height) // 2, (image.shape[1] - part_width) // 2
    part = image[top : top + part_height, left : left + part_width]
    if scale < 1:
        shrunk = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        return lambda rows: shrunk[rows].astype(np.float32)
    return Stretched(part.astype(np.float32), height, width).rows


def _blurred(photo: MarkedPhoto) -> Rows:
    """The blurred photo without its salient object, whose colours would spread around its outline."""
    small = shrink(photo.image, BLUR_SIDE)
    height, width = small.shape[:2]
    weight = (1 - photo.coarse(height, width)) + LEAST_WEIGHT
    weighted = cv2.GaussianBlur(small * weight[:, :, None], (0, 0), BLUR_SIGMA)
    total = cv2.GaussianBlur(weight, (0, 0), BLUR_SIGMA)
    return Stretched((weighted / total[:, :, None]).astype(np.float32), *photo.image.shape[:2]).rows
