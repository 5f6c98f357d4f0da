"""Saliency by the fast bilateral solver: smooth except where the photo's colours change."""

import numpy as np
from numpy.typing import NDArray

from saliency_gan.images import ImageArray
from saliency_gan.images.layout import shrink
from saliency_gan.prediction.guided_filter import GUIDED_SIDE, apply_coefficients, guided_coefficients
from saliency_gan.prediction.marked_photo import MarkedPhoto
from saliency_gan.prediction.strips import Stretched
from saliency_gan.saliency.bilateral_solver import solve

SOLVER_SIDE = 512
"""The map is computed on the photo shrunk to this longer side, which limits time and memory."""
UPSAMPLING_RADIUS = 4
"""Radius in pixels of the guided filter that upsamples the map to GUIDED_SIDE; it is two pixels at SOLVER_SIDE. The
filter also smooths single pixels that have their own cell in the solver's grid because of their colour."""


class SolvedPhoto(MarkedPhoto):
    """Saliency by the fast bilateral solver (Barron and Poole 2016).

    The map is computed at a limited size and upsampled to the photo's size by the guided filter.
    """

    def __init__(self, image: ImageArray, saliency: NDArray[np.float32], threshold: float) -> None:
        super().__init__(image, saliency, threshold)
        guide = shrink(image, GUIDED_SIDE)
        small = shrink(guide, SOLVER_SIDE)
        solved = Stretched(solve(small, self.coarse(*small.shape[:2])), *guide.shape[:2]).rows(slice(0, len(guide)))
        self._coefficients = Stretched(guided_coefficients(guide, solved, UPSAMPLING_RADIUS), *image.shape[:2])

    def saliency(self, rows: slice) -> NDArray[np.float32]:
        """Saliency of some rows, float32 [rows, W] in [0, 1]."""
        return apply_coefficients(self._coefficients.rows(rows), self.image[rows])
