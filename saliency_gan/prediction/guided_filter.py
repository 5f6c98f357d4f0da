"""Saliency whose edges follow those of the photo, by the guided filter (He, Sun and Tang 2013)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.images import ImageArray
from saliency_gan.images.layout import shrink
from saliency_gan.prediction.marked_photo import MarkedPhoto
from saliency_gan.prediction.strips import Stretched

GUIDED_SIDE = 1024
"""The guided filter's coefficients are computed on the photo shrunk to this longer side, and applied at full size."""
GUIDED_RADIUS = 0.04
"""Radius of the guided filter's windows as a share of the photo's longer side."""
GUIDED_EPSILON = 1e-4
"""Variance of colours in [0, 1] above which the guided filter keeps an edge."""


class GuidedPhoto(MarkedPhoto):
    """Saliency that is linear in the photo's colours within every small window, by the guided filter."""

    def __init__(self, image: ImageArray, saliency: NDArray[np.float32], threshold: float) -> None:
        super().__init__(image, saliency, threshold)
        guide = shrink(image, GUIDED_SIDE)
        height, width = guide.shape[:2]
        small = Stretched(saliency, height, width).rows(slice(0, height))
        radius = max(1, round(GUIDED_RADIUS * max(height, width)))
        self._coefficients = Stretched(guided_coefficients(guide, small, radius), *image.shape[:2])

    def saliency(self, rows: slice) -> NDArray[np.float32]:
        """Saliency of some rows, float32 [rows, W] in [0, 1]."""
        coefficients = self._coefficients.rows(rows)
        return apply_coefficients(coefficients, self.image[rows])


def guided_coefficients(
    guide: ImageArray, values: NDArray[np.float32], radius: int, epsilon: float = GUIDED_EPSILON
) -> NDArray[np.float32]:
    """The guided filter's mean coefficients a and b (He, Sun and Tang 2013, eqs. 14 to 16, with a guide of three
    colours).

    If they are computed on a shrunk photo and applied at full size, this is the fast guided filter (He and Sun 2015).

    Args:
        guide: uint8 [h, w, 3]; colours are scaled to [0, 1].
        values: The map to filter, float32 [h, w].
        radius: Windows are squares of 2 radius + 1 pixels.
        epsilon: Added to the variances.

    Returns:
        float32 [h, w, 4]: a for red, green and blue, and b.
    """

    def mean(array: NDArray[np.floating]) -> NDArray[np.float32]:
        return cv2.blur(array, (2 * radius + 1, 2 * radius + 1))  # type: ignore[return-value]

    colours = guide.astype(np.float32) / 255
    # Variances are differences of means, so subtracting the photo's mean first keeps more digits.
    centre = colours.mean(axis=(0, 1))
    colours -= centre
    red, green, blue = cv2.split(colours)
    means, value = mean(colours), mean(values)
    mean_red, mean_green, mean_blue = cv2.split(means)
    rr = mean(red * red) - mean_red * mean_red + epsilon
    rg = mean(red * green) - mean_red * mean_green
    rb = mean(red * blue) - mean_red * mean_blue
    gg = mean(green * green) - mean_green * mean_green + epsilon
    gb = mean(green * blue) - mean_green * mean_blue
    bb = mean(blue * blue) - mean_blue * mean_blue + epsilon
    with_value = mean(colours * values[:, :, None]) - means * value[:, :, None]
    # Inverse of the symmetric 3 x 3 matrix by its cofactors.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    v_red, v_green, v_blue = cv2.split(with_value)
    slopes = cv2.merge(
        [
            (c_rr * v_red + c_rg * v_green + c_rb * v_blue) / determinant,
            (c_rg * v_red + c_gg * v_green + c_gb * v_blue) / determinant,
            (c_rb * v_red + c_gb * v_green + c_bb * v_blue) / determinant,
        ]
    )
    offsets = value - (slopes * means).sum(axis=2)
    slopes, offsets = mean(slopes), mean(offsets)
    return np.dstack([slopes, offsets - slopes @ centre])


def apply_coefficients(coefficients: NDArray[np.float32], image: ImageArray) -> NDArray[np.float32]:
    """a . colour + b for uint8 [H, W, 3], clipped to [0, 1]; overwrites `coefficients`, float32 [H, W, 4]."""
    filtered = coefficients[:, :, 3]
    for channel in range(3):
        filtered += coefficients[:, :, channel] * (image[:, :, channel] * np.float32(1 / 255))
    return filtered.clip(0, 1)
