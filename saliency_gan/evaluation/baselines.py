"""Saliency maps without any learning. Their scores show how much a model adds.

Like `metrics`, this module imports neither torch nor the rest of the package.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
SaliencyMap = NDArray[np.float32]

CENTRE_SIGMA = 0.25
CONTRAST_SIDE = 128
BORDER_COLOURS = 3
COLOUR_NOISE = 3.0
"""Least standard deviation of every colour of the border, in Lab units."""


def centre_prior(image: Image) -> SaliencyMap:
    """Gaussian around the image's centre with a standard deviation of a quarter of each side.

    Args:
        image: RGB, uint8 [H, W, 3]; only its size is used.

    Returns:
        float32 [H, W] in [0, 1].
    """
    return _gaussian(image.shape[0], image.shape[1], CENTRE_SIGMA)


def all_foreground(image: Image) -> SaliencyMap:
    """Ones everywhere; arguments as `centre_prior`."""
    return np.ones(image.shape[:2], np.float32)


def otsu(image: Image) -> SaliencyMap:
    """Otsu's threshold of the grey image; the object is the side that touches the image's border less.

    Args:
        image: RGB, uint8 [H, W, 3].

    Returns:
        float32 [H, W], 0 or 1.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    _, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    touches = bright[_ring(grey.shape[0], grey.shape[1], 1)].mean()
    return (bright if touches <= 0.5 else 1 - bright).astype(np.float32)


def contrast(image: Image) -> SaliencyMap:
    """Contrast to the border: the distance of a pixel's colour from all colours of the image's border.

    The border's Lab colours are clustered. The contrast of a pixel is its least Mahalanobis distance to a cluster. It
    is multiplied by a centre prior, and a logistic curve around Otsu's threshold turns it into saliency.

    Args:
        image: RGB, uint8 [H, W, 3].

    Returns:
        float32 [H, W] in [0, 1].
    """
    height, width = image.shape[:2]
    scale = min(1.0, CONTRAST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab: NDArray[np.float32] = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), (0, 0), 1.5)  # type: ignore[assignment]
    distance = _distance_to_colours(lab, lab[_ring(size[1], size[0], max(1, min(size) // 12))])
    weighted = np.minimum(distance, np.percentile(distance, 98)) * _gaussian(size[1], size[0], 0.3)
    weighted -= weighted.min()
    grey = 255 * weighted / max(1, weighted.max())  # contrast below 1 standard deviation of a colour is noise
    threshold, _ = cv2.threshold(grey.astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    saliency = 1 / (1 + np.exp((threshold + 0.5 - grey) / 25))
    return cv2.resize(saliency.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


BASELINES: dict[str, Callable[[Image], SaliencyMap]] = {
    "centre prior": centre_prior,
    "all foreground": all_foreground,
    "Otsu": otsu,
    "contrast": contrast,
}
"""Name in tables -> baseline."""


def _distance_to_colours(lab: NDArray[np.float32], colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least Mahalanobis distance of every pixel of `lab`, [H, W, 3], to a cluster of `colours`, [N, 3]; [H, W]."""
    cv2.setRNGSeed(0)  # for the random first centres of k-means
    clusters = min(BORDER_COLOURS, len(colours))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    _, labels, _ = cv2.kmeans(colours[:, None], clusters, None, stop, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    distances = []
    for cluster in range(clusters):
        members = colours[labels[:, 0] == cluster]
        if len(members) < 0.08 * len(colours):  # a detail, or a piece of the object
            continue
        deviation = members - members.mean(0)
        covariance = deviation.T @ deviation / len(members) + COLOUR_NOISE**2 * np.eye(3)
        offset = lab - members.mean(0)
        distances.append(np.sqrt(np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(covariance), offset)))
    return np.min(distances, axis=0).astype(np.float32)


def _gaussian(height: int, width: int, sigma: float) -> SaliencyMap:
    """A Gaussian that is 1 in the centre, float32 [H, W]; `sigma` is a share of each side."""
    rows, columns = (np.arange(side) + 0.5 for side in (height, width))
    vertical, horizontal = rows / height - 0.5, columns / width - 0.5
    return np.exp(-(vertical[:, None] ** 2 + horizontal[None] ** 2) / (2 * sigma**2)).astype(np.float32)


def _ring(height: int, width: int, thickness: int) -> NDArray[np.bool_]:
    """True on the outermost `thickness` pixels, bool [H, W]."""
    ring = np.ones((height, width), bool)
    ring[thickness:-thickness, thickness:-thickness] = False
    return ring
