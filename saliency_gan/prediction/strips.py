"""Processes photos of any size in limited memory, a few rows at a time."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

STRIP_PIXELS = 1 << 20
"""Float arrays at full size have at most about this many pixels; smaller photos are processed at once."""


def strips(height: int, width: int) -> Iterator[slice]:
    """Splits `height` rows of `width` pixels into slices of about STRIP_PIXELS, each of one row or more."""
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


class Stretched:
    """A small array upsampled bilinearly; any of its rows can be computed without the others.

    Args:
        small: float32 [h, w] or [h, w, C].
        height: Rows at the larger size.
        width: Columns at the larger size.
    """

    def __init__(self, small: NDArray[np.float32], height: int, width: int) -> None:
        self.small, self.height, self.width = small, height, width

    def rows(self, part: slice) -> NDArray[np.float32]:
        """Rows `part`, float32 [rows, width] or [rows, width, C]; the same as by `cv2.resize` with INTER_LINEAR."""
        if (part.start, part.stop) == (0, self.height):
            return self._resized(self.small, self.height)
        # Pixel centres are at half-integers, as in cv2.resize; rows beyond the edge repeat the edge row.
        last = len(self.small) - 1
        position = (np.arange(part.start, part.stop) + 0.5) * (len(self.small) / self.height) - 0.5
        above = np.floor(position).astype(int)
        share = (position - above).astype(np.float32).reshape(-1, *[1] * (self.small.ndim - 1))
        above, below = above.clip(0, last), (above + 1).clip(0, last)
        needed = self.small[above[0] : below[-1] + 1]
        wide = self._resized(needed, len(needed))
        upper, lower = wide[above - above[0]], wide[below - above[0]]
        lower -= upper
        lower *= share
        return np.add(upper, lower, out=lower)

    def _resized(self, small: NDArray[np.float32], height: int) -> NDArray[np.float32]:
        return cv2.resize(small, (self.width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
