"""Draws the results of a photo: map, mask, cut-out and overlay."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.writing import LONGEST_SIDE
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.marked_photo import MarkedPhoto
from saliency_gan.prediction.strips import strips

PHOTO_SUFFIXES = {"map": ".png", "map16": ".png", "mask": ".png", "cutout": ".png", "overlay": ".jpg"}
"""Kind of result of a photo -> its format; each kind has its own folder."""

OVERLAY_COLOUR = np.array((255, 40, 90), np.float32)
OVERLAY_STRENGTH = 0.6
FLAT = 2 / 255
"""If the values of a map differ by less than this, Otsu's method has nothing to separate."""
OTSU_FALLBACK = 0.5


def draw(
    kind: str, photo: MarkedPhoto, background: Background, rgba: ImageArray | None = None
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Draws one result of a photo, a few rows at a time.

    Args:
        kind: A key of PHOTO_SUFFIXES.
        photo: The photo, [H, W], and its saliency.
        background: The background of a cut-out.
        rgba: The photo's own colours and alpha, uint8 [H, W, 4], if it is partly transparent.

    Returns:
        map: uint8 [H, W], saliency times 255. map16: uint16 [H, W], saliency times 65535. mask: uint8 [H, W] of 0 and
        255. cutout: uint8 [H, W, 4], the photo with its opacity, or [H, W, 3] on an opaque background. overlay: uint8
        [H, W, 3], the photo tinted where it is salient.
    """
    height, width = photo.image.shape[:2]
    channels = {"cutout": 4 if background.transparent else 3, "overlay": 3}.get(kind)
    size = (height, width, channels) if channels else (height, width)
    drawn = np.empty(size, np.uint16) if kind == "map16" else np.empty(size, np.uint8)
    behind = background.behind(photo) if kind == "cutout" and not background.transparent else None
    for rows in strips(height, width):
        part = drawn[rows]
        if kind in ("map", "map16"):
            part[...] = (photo.saliency(rows) * np.iinfo(drawn.dtype).max).round()
        elif kind == "mask":
            np.multiply(photo.saliency(rows) >= photo.threshold, 255, out=part, casting="unsafe")
        elif kind == "overlay":
            tint = photo.saliency(rows)[:, :, None] * OVERLAY_STRENGTH
            part[...] = (photo.image[rows] * (1 - tint) + OVERLAY_COLOUR * tint).round()
        else:
            colours, opacity = _cut_out(photo, rows, rgba)
            if behind is None:
                part[:, :, :3], part[:, :, 3] = colours, (opacity * 255).round()
            else:
                opacity = opacity[:, :, None]
                part[...] = (colours * opacity + behind(rows) * (1 - opacity)).round()
    return drawn


def _cut_out(photo: MarkedPhoto, rows: slice, rgba: ImageArray | None) -> tuple[ImageArray, NDArray[np.float32]]:
    """Colours and opacity of some rows. Where the photo itself is not opaque, its own colours are used, and opacity is
    multiplied by its alpha."""
    colours, opacity = photo.colours(rows), photo.opacity(rows)
    if rgba is None:
        return colours, opacity
    own, alpha = rgba[rows, :, :3], rgba[rows, :, 3]
    return np.where((alpha < 255)[:, :, None], own, colours), opacity * (alpha * np.float32(1 / 255))


def check_length(path: Path, image: ImageArray, kinds: Sequence[str]) -> None:
    """Refuses a photo that is too large for some kinds of results.

    Raises:
        UserError: If there are such kinds; the message names them.
    """
    too_long = kinds_too_long(image, kinds)
    if too_long:
        raise UserError(
            f"{path} is too long for the {' and '.join(too_long)}, for {_limits(too_long)}: save others, or shrink it."
        )


def kinds_too_long(image: ImageArray, kinds: Sequence[str]) -> list[str]:
    """The kinds of results for which a photo, uint8 [H, W, 3], is too large."""
    return [kind for kind in kinds if max(image.shape) > LONGEST_SIDE[PHOTO_SUFFIXES[kind]]]


def _limits(kinds: Sequence[str]) -> str:
    suffixes = dict.fromkeys(PHOTO_SUFFIXES[kind] for kind in kinds)
    return " and ".join(f"{suffix} files end at {LONGEST_SIDE[suffix]:,} pixels" for suffix in suffixes)


def find_threshold(saliency: NDArray[np.float32], threshold: float | str) -> float:
    """Returns the threshold of one photo.

    Args:
        saliency: The model's map, float32 [h, w] in [0, 1].
        threshold: A number, which is returned, or "otsu": the one that separates the map's values best (Otsu 1979).

    Returns:
        Threshold in [0, 1]; pixels with at least this saliency belong to the mask. For a flat map, "otsu" gives
        OTSU_FALLBACK.
    """
    if not isinstance(threshold, str):
        return threshold
    if threshold != "otsu":
        raise UserError(f"threshold is {threshold}, but has to be a number from 0 to 1 or otsu.")
    if np.ptp(saliency) < FLAT:
        return OTSU_FALLBACK
    values = (saliency * 255).round().astype(np.uint8)
    last_below = cv2.threshold(values, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0]
    return (last_below + 0.5) / 255
