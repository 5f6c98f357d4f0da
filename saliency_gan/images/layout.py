"""Shrinks images, fits them into squares, and lays them out in rows."""

from collections.abc import Iterable

import cv2
import numpy as np

from saliency_gan.images import ImageArray


def square(image: ImageArray, side: int) -> ImageArray:
    """Fits an image into a square, padded with its edge pixels: uint8 [side, side, 3]."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, (new_width, new_height), interpolation=interpolation)  # type: ignore[assignment]
    top, left = (side - new_height) // 2, (side - new_width) // 2
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        image, top, side - new_height - top, left, side - new_width - left, cv2.BORDER_REPLICATE
    )


def shrink(image: ImageArray, side: int) -> ImageArray:
    """Shrinks a photo, uint8 [H, W, 3], to a longer side of at most `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def grid(images: Iterable[ImageArray], columns: int, gap: int = 2) -> ImageArray:
    """Lays out uint8 [H, W, 3] images of equal size in rows on white; returns uint8 [H', W', 3]."""
    tiles = list(images)
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
