"""Brings a model's map to the photo's size and refines it."""

import numpy as np
from numpy.typing import NDArray

from saliency_gan.config.predict import EdgeRefinement
from saliency_gan.images import ImageArray
from saliency_gan.prediction.guided_filter import GuidedPhoto
from saliency_gan.prediction.marked_photo import MarkedPhoto


def refine(image: ImageArray, saliency: NDArray[np.float32], threshold: float, method: EdgeRefinement) -> MarkedPhoto:
    """Brings a model's map to the photo's size.

    Args:
        image: uint8 [H, W, 3].
        saliency: The model's map, float32 [h, w] in [0, 1], of the whole photo.
        threshold: Pixels with at least this saliency, in [0, 1], belong to the mask.
        method: none upsamples the map bilinearly; guided aligns its edges with those of the photo (He, Sun and Tang
            2013); solver makes it smooth except where colours change (Barron and Poole 2016); matting estimates the
            opacity of every pixel (Levin, Lischinski and Weiss 2008) and colours without the background.

    Raises:
        UserError: If matting is asked for and pymatting is not installed.
    """
    if method == "guided":
        return GuidedPhoto(image, saliency, threshold)
    if method == "solver":
        from saliency_gan.prediction.solving import SolvedPhoto

        return SolvedPhoto(image, saliency, threshold)
    if method == "matting":
        from saliency_gan.prediction.matting import MattedPhoto

        return MattedPhoto(image, saliency, threshold)
    return MarkedPhoto(image, saliency, threshold)
