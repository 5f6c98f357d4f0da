"""A photo with its saliency at full size."""

import numpy as np
from numpy.typing import NDArray

from saliency_gan.images import ImageArray
from saliency_gan.prediction.strips import Stretched

CUTOUT_RAMP = 8.0
"""A cut-out's opacity rises from 0 to 1 while saliency rises by 1 / 8 around the threshold, which softens its edge."""


class MarkedPhoto:
    """A photo and its saliency, which is computed for a few rows at a time.

    Attributes:
        image: uint8 [H, W, 3].
        threshold: Pixels with at least this saliency belong to the mask.
    """

    def __init__(self, image: ImageArray, saliency: NDArray[np.float32], threshold: float) -> None:
        self.image, self.threshold = image, threshold
        self._stretched = Stretched(saliency, *image.shape[:2])

    def coarse(self, height: int, width: int) -> NDArray[np.float32]:
        """The model's own map at another size, float32 [height, width] in [0, 1]."""
        return Stretched(self._stretched.small, height, width).rows(slice(0, height))

    def saliency(self, rows: slice) -> NDArray[np.float32]:
        """Saliency of some rows, float32 [rows, W] in [0, 1]."""
        return self._stretched.rows(rows)

    def opacity(self, rows: slice) -> NDArray[np.float32]:
        """Opacity of some rows in a cut-out, float32 [rows, W] in [0, 1]; 0.5 at the threshold."""
        return ((self.saliency(rows) - self.threshold) * CUTOUT_RAMP + 0.5).clip(0, 1)

    def colours(self, rows: slice) -> ImageArray:
        """Colours of some rows in a cut-out, uint8 [rows, W, 3]."""
        return self.image[rows]
