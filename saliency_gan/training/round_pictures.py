"""Pictures of self-training: maps of the same photos from each round's model, and the masks of the last round."""

from collections.abc import Sequence

import numpy as np

from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.saliency.predictor import SaliencyMap, resize, stretch
from saliency_gan.training.marking import Mark, MarkedPhotos
from saliency_gan.training.photos import Photos

SIDE = 160
"""Side in pixels of every tile."""
PREVIEW_PHOTOS, PREVIEW_COLUMNS = 24, 12


def drawn(saliency: SaliencyMap) -> ImageArray:
    """Converts a map, float32 [H, W] in [0, 1], to a tile, uint8 [SIDE, SIDE]."""
    return (255 * stretch(saliency, (SIDE, SIDE))).astype(np.uint8)


def comparison(photos: Sequence[ImageArray], tiles: Sequence[ImageArray]) -> ImageArray:
    """A row of photos, and one row of maps for each model below it, first teacher first; uint8 [H, W, 3].

    Args:
        photos: uint8 [H, W, 3].
        tiles: Results of `drawn`: first one for each photo from the first model, then from the second, and so on.
    """
    row = [resize(photo, SIDE) for photo in photos]
    return grid([*row, *(np.repeat(tile[:, :, None], 3, axis=2) for tile in tiles)], len(row))


def preview(photos: Photos, marks: Sequence[Mark]) -> ImageArray:
    """The first photos that were kept, each beside a copy that is darkened outside the mask; uint8 [H, W, 3]."""
    kept = [index for index, mark in enumerate(marks) if not mark.left_out][:PREVIEW_PHOTOS]
    if not kept:
        return np.full((SIDE, SIDE, 3), 255, np.uint8)
    pairs = MarkedPhotos(photos.subset(kept), [marks[index] for index in kept]).subset(range(len(kept)))
    tiles: list[ImageArray] = []
    for photo, mask in zip(pairs.images, pairs.masks, strict=True):
        tiles += [photo, np.where(mask[:, :, None] >= 128, photo, photo // 4)]
    return grid([resize(tile, SIDE) for tile in tiles], PREVIEW_COLUMNS)
