"""Masks for unlabelled photos: what a model is sure of, refined by colour."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.config import AdaptConfig
from saliency_gan.images import ImageArray
from saliency_gan.processes import cores
from saliency_gan.saliency.predictor import Predictor, SaliencyMap, stretch
from saliency_gan.saliency.validation import intersection_over_union


@dataclass(frozen=True)
class Mark:
    """What a model says about one photo.

    Attributes:
        mask: uint8 [side, side] of 0 and 255, refined where that was possible; None for a photo that was left out.
        confidence: Mean of |2 p - 1| over the mean map of all views, 0 to 1.
        agreement: Mean IoU of the views' masks with that of their mean, 0 to 1.
        area: Share of the photo that the mask covers.
        refined_iou: IoU of the refined mask with the model's own; 1 where nothing is refined.
    """

    mask: ImageArray | None
    confidence: float
    agreement: float
    area: float
    refined_iou: float

    @property
    def score(self) -> float:
        """How well the model agrees with itself and with the photo's colours; 0 for a photo that was left out."""
        return 0.0 if self.mask is None else self.agreement * self.refined_iou


def mark_photos(predictor: Predictor, photos: ImageArray, config: AdaptConfig, batch: int = 64) -> list[Mark]:
    """Marks photos under flips and scales, keeps the confident and sane masks, and refines them by colour.

    Args:
        predictor: The model with its flips and scales.
        photos: Squeezed photos, uint8 [N, side, side, 3].
        config: Limits of what is kept, and how it is refined.
        batch: Photos a forward pass.
    """
    with ThreadPoolExecutor(cores()) as pool, tqdm(desc="marking", total=len(photos), unit="photo") as progress:
        marks: list[Mark] = []
        pending: Iterator[Mark] = iter(())
        for start in range(0, len(photos), batch):
            part = photos[start : start + batch]
            views = predictor.views([predictor.squeeze(photo) for photo in part])
            marks += pending
            pending = pool.map(lambda photo, seen: _mark(photo, seen, config), part, views.swapaxes(0, 1))
            progress.update(len(part))
        return [*marks, *pending]


def _mark(photo: ImageArray, views: SaliencyMap, config: AdaptConfig) -> Mark:
    saliency = views.mean(axis=0)
    own = saliency >= config.threshold
    agreement = float(np.mean([intersection_over_union(view >= config.threshold, own) for view in views]))
    confidence, area = float(np.abs(2 * saliency - 1).mean()), float(own.mean())
    if (
        confidence < config.min_confidence
        or agreement < config.min_agreement
        or not config.min_area <= area <= config.max_area
    ):
        return Mark(None, confidence, agreement, area, 0.0)
    saliency = stretch(saliency, photo.shape[:2])
    mask, refined_iou = saliency >= config.threshold, 1.0
    if config.refine == "grabcut":
        refined = refine_by_colour(photo, saliency, mask, config.grabcut_certainty, config.grabcut_iterations)
        refined_iou = intersection_over_union(refined, mask)
        if refined_iou >= config.min_refined_iou:
            mask = refined
    return Mark(255 * mask.astype(np.uint8), confidence, agreement, area, refined_iou)


def refine_by_colour(
    image: ImageArray, saliency: SaliencyMap, mask: NDArray[np.bool_], certainty: float, iterations: int
) -> NDArray[np.bool_]:
    """Moves a mask's outline to where the colours change, by GrabCut (Rother et al. 2004).

    Args:
        image: uint8 [H, W, 3].
        saliency: Float [H, W] in [0, 1].
        mask: bool [H, W], where GrabCut starts.
        certainty: Saliency from which a pixel stays foreground; below 1 minus this it stays background.
        iterations: Iterations of GrabCut.

    Returns:
        bool [H, W]; the mask as it is where either side has no pixel at all.
    """
    if mask.all() or not mask.any():
        return mask
    labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[saliency >= certainty] = cv2.GC_FGD
    labels[saliency < 1 - certainty] = cv2.GC_BGD
    cv2.setRNGSeed(0)  # GrabCut starts from k-means; each thread has a random state of its own
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, labels, (0, 0, 0, 0), *models, iterations, cv2.GC_INIT_WITH_MASK)
    refined = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.medianBlur(refined, 5) > 0
