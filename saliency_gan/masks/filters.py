"""Mask filters: cleaning steps for a mask, and checks that reject a pair."""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.config import MasksConfig
from saliency_gan.images.overlap import intersection_over_union

Mask = NDArray[np.uint8]
"""[H, W], 1 on the object and 0 elsewhere."""

CHECKS = {
    "min_area": "the masks are too small: raise --theta, lower --margin (lighting, difference), --votes (units) or"
    " --min_area",
    "max_area": "the masks are too large: raise --shift, lower --theta, raise --margin (lighting, difference), --votes"
    " (units) or --max_area",
    "max_border": "the masks lie along the border: raise --shift, lower --theta, raise --margin (lighting, difference),"
    " --votes (units) or --max_border",
    "two_peaks": "the shifted images have no two greys: raise --shift or switch --two_peaks off",
    "min_agreement": "the rules disagree: raise --shift or lower --min_agreement",
    "min_stability": "the shift changes the objects: lower --shift or --min_stability",
    "min_fit": "the judge marks something else: try other values of --shift, or lower --min_fit",
}
"""Setting of a check -> advice for the case that it rejects the most pairs, in the order of the checks."""


def clean(mask: NDArray[np.bool_], config: MasksConfig) -> Mask:
    """Opens the mask, keeps its largest components and fills its holes; each step only if its setting is on.

    Args:
        mask: bool [H, W], true on the object.
        config: `opening`, `min_component` and `fill_holes` are used.
    """
    cleaned = mask.astype(np.uint8)
    if config.opening:
        cleaned = open_mask(cleaned, config.opening)
    if config.min_component:
        cleaned = keep_large_components(cleaned, config.min_component)
    if config.fill_holes:
        cleaned = fill_holes(cleaned)
    return cleaned


def rejected_by(
    mask: Mask,
    shifted: NDArray[np.float32] | None,
    compared: Sequence[Mask],
    config: MasksConfig,
) -> str | None:
    """Returns the first check that a pair fails, a key of `CHECKS`, or None.

    Stability and fit are not checked here, because they need other images.

    Args:
        mask: The cleaned mask.
        shifted: Brightness of G(z + h_bg, c), float [H, W] in [0, 1]; None if `two_peaks` is off.
        compared: The cleaned masks of the rules that have to agree; empty if `min_agreement` is 0.
        config: `min_area`, `max_area`, `max_border`, `two_peaks` and `min_agreement` are used.
    """
    area = mask.mean()
    if area < config.min_area:
        return "min_area"
    if area > config.max_area:
        return "max_area"
    if config.max_border < 1 and border_share(mask) > config.max_border:
        return "max_border"
    if shifted is not None and histogram_peaks(shifted) < 2:
        return "two_peaks"
    if compared and agreement(compared) < config.min_agreement:
        return "min_agreement"
    return None


def open_mask(mask: Mask, diameter: int) -> Mask:
    """Morphological opening: removes parts that a disc of `diameter` pixels does not fit into.

    The mask is treated as if it continued beyond the border.
    """
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)  # type: ignore[return-value]


def keep_large_components(mask: Mask, share: float) -> Mask:
    """Removes the 8-connected components with fewer pixels than `share` of the largest one."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # the background
    return (areas >= max(1, share * areas.max()))[labels].astype(np.uint8)


def fill_holes(mask: Mask) -> Mask:
    """Fills holes: background that is not connected (4-connected) to the image's border."""
    outside = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2)
    return (outside[1:-1, 1:-1] != 2).astype(np.uint8)


def border_share(mask: Mask) -> float:
    """Share of the image's outermost pixels that the mask covers, in [0, 1]."""
    edges = (mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1])
    return float(sum(int(edge.sum()) for edge in edges) / sum(edge.size for edge in edges))


def histogram_peaks(values: NDArray[np.float32]) -> int:
    """Number of maxima of the 12-bin histogram over [0, 1]. A plateau counts once, and the ends can be maxima."""
    histogram = np.histogram(values, bins=12, range=(0.0, 1.0))[0]
    slopes = np.sign(np.diff(histogram, prepend=-1, append=-1))
    slopes = slopes[slopes != 0]
    return int(np.count_nonzero((slopes[:-1] > 0) & (slopes[1:] < 0)))


def agreement(masks: Sequence[Mask]) -> float:
    """Mean IoU over all pairs of several masks, in [0, 1]."""
    return fmean(intersection_over_union(one, other) for one, other in combinations(masks, 2))
