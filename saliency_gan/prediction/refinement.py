"""How a model's map is brought to the photo's size."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saliency_gan.images import ImageArray
from saliency_gan.prediction.guided_filter import GuidedPhoto
from saliency_gan.prediction.marked_photo import MarkedPhoto

Refinement = Literal["none", "guided", "solver", "matting"]


def refine(image: ImageArray, saliency: NDArray[np.float32], threshold: float, method: Refinement) -> MarkedPhoto:
    """Brings a model's map to the photo's size.

    Args:
        image: uint8 [H, W, 3].
        saliency: The model's map, float32 [h, w] in [0, 1], of the whole photo.
        threshold: Saliency from which a pixel belongs to what stands out, in [0, 1].
        method: none stretches the map bilinearly; guided lets its edges follow those of the photo (He, Sun and Tang
            2013); solver makes it smooth except where colours change (Barron and Poole 2016); matting finds the opacity
            of every pixel (Levin, Lischinski and Weiss 2008) and clean colours.

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
