"""A picture of the first pairs. It shows the user what a model would learn from."""

from collections.abc import Sequence

import cv2
import numpy as np

from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8
from saliency_gan.masks.candidates import Candidate, CandidateSource

PREVIEW_PAIRS = 48
OUTLINE = (255, 0, 60)


def preview(pairs: Sequence[Candidate], source: CandidateSource) -> ImageArray:
    """Lays out six pairs per row, each as the outlined image, the input of its rule (`Evidence.shown`) and the mask.

    Returns:
        uint8 [H, W, 3].
    """
    numbers, batch = [pair.number for pair in pairs], source.config.batch
    batches = (numbers[start : start + batch] for start in range(0, len(numbers), batch))
    seen = np.concatenate([to_uint8(source.look(some).shown) for some in batches])
    tiles = [
        np.hstack([_outlined(pair), image, cv2.cvtColor(255 * pair.mask, cv2.COLOR_GRAY2RGB)])
        for pair, image in zip(pairs, seen, strict=True)
    ]
    return grid(tiles, columns=6, gap=6)


def _outlined(pair: Candidate) -> ImageArray:
    contours, _ = cv2.findContours(pair.mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(pair.image.copy(), contours, -1, OUTLINE, 1)  # type: ignore[return-value]
