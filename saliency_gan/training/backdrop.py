"""Puts objects on new backgrounds, because generated backgrounds are plainer than those of photos."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.images import ImageArray

SCALES = 0.4, 1.1
LARGEST_TURN = 15.0
"""Largest rotation in degrees."""
PATCH_SIDES = 0.12, 0.62
"""Smallest and largest side of a patch, as shares of the image's side."""
HORIZON_SHARE = 0.5


def change_backdrop(
    image: ImageArray,
    mask: ImageArray,
    draw_other: Callable[[np.random.Generator], ImageArray],
    random: np.random.Generator,
) -> tuple[ImageArray, ImageArray]:
    """Cuts out the masked object, resizes, rotates and moves it, and puts it on textures from other images.

    This is copy-paste (Ghiasi et al. 2021) on backgrounds without objects. A background is a patch of an image that is
    mirrored until it fills the square, or two such textures above each other, like sky and ground. A model that only
    saw the plain backgrounds of a small generator takes every texture in a photo for an object.

    Args:
        image: uint8 [side, side, 3].
        mask: uint8 [side, side], 0 to 255.
        draw_other: Draws an image, uint8 [side, side, 3], that a patch is taken from.
        random: Random generator for all choices.

    Returns:
        The new image and its mask, with shapes and types as `image` and `mask`.
    """
    image, mask = _move(image, mask, random)
    ground = _texture(draw_other(random), random)
    if random.random() < HORIZON_SHARE:
        upper = _texture(draw_other(random), random)
        ground = _blend(upper, ground, _above_horizon(len(mask), random))
    opacity = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.4, 0.9) * len(mask) / 64)
    return _blend(image, ground, np.divide(opacity, 255, dtype=np.float32)), mask


def _move(image: ImageArray, mask: ImageArray, random: np.random.Generator) -> tuple[ImageArray, ImageArray]:
    side, scale = len(mask), random.uniform(*SCALES)
    turn = random.uniform(-LARGEST_TURN, LARGEST_TURN)
    matrix = np.asarray(cv2.getRotationMatrix2D((side / 2, side / 2), turn, scale), np.float64)
    room = side * (max(0.0, 1 - scale) * 3 / 8 + 1 / 16)
    matrix[:, 2] += random.uniform(-room, room, 2)
    size = (side, side)
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved, cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _texture(image: ImageArray, random: np.random.Generator) -> ImageArray:
    """Cuts a random patch from an image, and mirrors it at its edges until it fills a square of the image's size."""
    side = len(image)
    patch_side = max(2, round(side * random.uniform(*PATCH_SIDES)))
    top, left = random.integers(0, side - patch_side + 1, 2)
    above, before = random.integers(0, patch_side, 2)
    rows, columns = (_mirrored(side, patch_side, shift) for shift in (above, before))
    return image[top + rows][:, left + columns]


def _mirrored(side: int, patch_side: int, shift: int) -> NDArray[np.int64]:
    """Position in the patch of each of `side` pixels, when the patch begins at `shift` and is mirrored repeatedly."""
    position = (np.arange(side) - shift) % (2 * patch_side)
    return np.minimum(position, 2 * patch_side - 1 - position)


def _above_horizon(side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Opacity of the upper texture, float32 [side, side] in [0, 1]. Its edge is a tilted line of random sharpness."""
    height, slope, softness = random.uniform(0.2, 0.8), random.normal(0, 0.15), random.uniform(0.005, 0.1)
    across, down = np.meshgrid(*[np.linspace(0, 1, side, dtype=np.float32)] * 2)
    below = (down - height - slope * (across - 0.5)) / softness
    return (0.5 - 0.5 * np.tanh(below)).astype(np.float32)


def _blend(front: ImageArray, back: ImageArray, opacity: NDArray[np.float32]) -> ImageArray:
    opacity = opacity[:, :, None]
    return np.rint(front * opacity + back * (1 - opacity)).astype(np.uint8)
