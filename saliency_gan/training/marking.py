"""Pseudo-masks for unlabelled photos: the confident masks of a model, refined by colour."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.compute.processes import cores
from saliency_gan.config import MarkRefinement, SelfTrainingConfig
from saliency_gan.images import ImageArray
from saliency_gan.images.overlap import intersection_over_union
from saliency_gan.saliency.bilateral_solver import solve
from saliency_gan.saliency.predictor import Predictor, SaliencyMap, resize, stretch
from saliency_gan.training.pairs import Pairs
from saliency_gan.training.photos import Photos

MARKED_AT_ONCE = 32
"""Photos per forward pass."""
BATCHES_AHEAD = 3
"""Batches whose masks are refined while the network computes the next one. So no core waits for the slowest mask."""
Reason = Literal["", "unsure", "views differ", "too small", "too large"]


@dataclass(frozen=True)
class Mark:
    """A model's mask of one photo, and how good it is.

    Attributes:
        file: The mask as a PNG file, refined if possible; empty for a photo that was left out.
        confidence: Mean of |2 p - 1| over the mean map of all views, 0 to 1.
        agreement: Mean IoU of the views' masks with that of their mean, 0 to 1.
        area: Share of the photo that the mask covers.
        refined_iou: IoU of the refined mask with the model's own mask; 1 without refinement.
        left_out: Reason why the photo was left out; "" for a photo that was kept.
    """

    file: bytes
    confidence: float
    agreement: float
    area: float
    refined_iou: float
    left_out: Reason = ""

    @property
    def mask(self) -> ImageArray:
        """uint8 [side, side] of 0 and 255; only for a photo that was kept."""
        return cv2.imdecode(np.frombuffer(self.file, np.uint8), cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]

    @property
    def score(self) -> float:
        """How well the model agrees with itself and with the photo's colours; 0 for a photo that was left out."""
        return 0.0 if self.left_out else self.agreement * self.refined_iou


class MarkedPhotos:
    """The photos that were kept, with their masks. Both stay compressed until they are needed.

    Args:
        photos: All photos.
        marks: One mark for each photo.
    """

    def __init__(self, photos: Photos, marks: Sequence[Mark]) -> None:
        kept = [index for index, mark in enumerate(marks) if not mark.left_out]
        self.photos, self.marks = photos.subset(kept), [marks[index] for index in kept]

    def __len__(self) -> int:
        return len(self.marks)

    def subset(self, indices: Sequence[int]) -> Pairs:
        """Decodes the photos at `indices` and their masks; resized masks have soft edges."""
        size = self.photos.side, self.photos.side
        masks: list[Any] = [cv2.resize(self.marks[index].mask, size) for index in indices]
        return Pairs(np.stack([self.photos[index] for index in indices]), np.stack(masks))


def mark_photos(
    predictor: Predictor,
    photos: Photos,
    threshold: float,
    refine: MarkRefinement,
    config: SelfTrainingConfig,
    batch: int = MARKED_AT_ONCE,
) -> Iterator[Mark]:
    """Marks photos at several flips and scales, keeps confident masks of plausible size, and refines them by colour.

    Args:
        predictor: The model with its flips and scales.
        photos: Photos, already resized to squares.
        threshold: Pixels with at least this saliency are marked.
        refine: Method of the refinement.
        config: Limits for keeping a photo, and settings of the refinement.
        batch: Photos per forward pass.

    Yields:
        A mark for each photo, in the order of the photos.
    """
    with ThreadPoolExecutor(cores()) as pool, tqdm(desc="marking", total=len(photos), unit="photo") as progress:
        pending: deque[Iterator[Mark]] = deque()
        for start in range(0, len(photos), batch):
            part = list(pool.map(photos.__getitem__, range(start, min(start + batch, len(photos)))))
            views = predictor.views([predictor.squeeze(photo) for photo in part])
            if len(pending) == BATCHES_AHEAD:
                yield from pending.popleft()
            pending.append(
                pool.map(lambda photo, seen: _mark(photo, seen, threshold, refine, config), part, views.swapaxes(0, 1))
            )
            progress.update(len(part))
        for marks in pending:
            yield from marks


def _mark(
    photo: ImageArray, views: SaliencyMap, threshold: float, refine: MarkRefinement, config: SelfTrainingConfig
) -> Mark:
    saliency = views.mean(axis=0)
    own = saliency >= threshold
    agreement = float(np.mean([intersection_over_union(view >= threshold, own) for view in views]))
    confidence, area = float(np.abs(2 * saliency - 1).mean()), float(own.mean())
    if reason := _reason_to_leave_out(confidence, agreement, area, config):
        return Mark(b"", confidence, agreement, area, 0.0, reason)
    photo = resize(photo, config.mark_side)
    saliency = stretch(saliency, photo.shape[:2])
    mask, refined_iou = saliency >= threshold, 1.0
    if refine != "none":
        refined = refine_by_colour(photo, saliency, threshold, refine, config)
        refined_iou = intersection_over_union(refined, mask)
        if refined_iou >= config.min_refined_iou:
            mask = refined
    file = cv2.imencode(".png", 255 * mask.astype(np.uint8))[1].tobytes()
    return Mark(file, confidence, agreement, area, refined_iou)


def _reason_to_leave_out(confidence: float, agreement: float, area: float, config: SelfTrainingConfig) -> Reason:
    if area < config.min_area:
        return "too small"
    if area > config.max_area:
        return "too large"
    if confidence < config.min_confidence:
        return "unsure"
    return "views differ" if agreement < config.min_agreement else ""


def refine_by_colour(
    photo: ImageArray, saliency: SaliencyMap, threshold: float, refine: MarkRefinement, config: SelfTrainingConfig
) -> NDArray[np.bool_]:
    """Computes the mask of a saliency map, and moves its outline to edges of colour in the photo.

    Args:
        photo: uint8 [H, W, 3].
        saliency: Float [H, W] in [0, 1].
        threshold: Pixels with at least this saliency are marked.
        refine: solver or grabcut.
        config: Settings of both.

    Returns:
        bool [H, W].
    """
    if refine == "grabcut":
        return grabcut(photo, saliency, threshold, config.grabcut_certainty, config.grabcut_iterations)
    return solve(photo, saliency, smoothness=config.solver_smoothness) >= threshold


def grabcut(
    photo: ImageArray, saliency: SaliencyMap, threshold: float, certainty: float, iterations: int
) -> NDArray[np.bool_]:
    """Refines a mask by GrabCut (Rother et al. 2004).

    Args:
        photo: uint8 [H, W, 3].
        saliency: Float [H, W] in [0, 1].
        threshold: GrabCut starts with the pixels of at least this saliency as foreground.
        certainty: A pixel of at least this saliency stays foreground; below 1 minus this, it stays background.
        iterations: Iterations of GrabCut.

    Returns:
        bool [H, W]; the unrefined mask if foreground or background has no pixel.
    """
    mask: NDArray[np.bool_] = saliency >= threshold
    labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[saliency >= certainty] = cv2.GC_FGD
    labels[saliency < 1 - certainty] = cv2.GC_BGD
    is_foreground = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if is_foreground.all() or not is_foreground.any():
        return mask
    cv2.setRNGSeed(0)  # GrabCut starts with k-means; each thread has its own random state
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(photo, labels, (0, 0, 0, 0), *models, iterations, cv2.GC_INIT_WITH_MASK)
    refined = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.medianBlur(refined, 5) > 0


def pack(marks: Sequence[Mark]) -> dict[str, Any]:
    """Packs marks into a few tensors for a checkpoint; `unpack` reverses it."""
    numbers = [(mark.confidence, mark.agreement, mark.area, mark.refined_iou) for mark in marks]
    return {
        "files": torch.frombuffer(bytearray(b"".join(mark.file for mark in marks)) or bytearray(1), dtype=torch.uint8),
        "lengths": [len(mark.file) for mark in marks],
        "numbers": torch.tensor(numbers, dtype=torch.float64),
        "left_out": [mark.left_out for mark in marks],
    }


def unpack(packed: dict[str, Any]) -> list[Mark]:
    """Reverses `pack`."""
    files, marks, start = packed["files"].numpy().tobytes(), [], 0
    rows = zip(packed["lengths"], packed["numbers"].tolist(), packed["left_out"], strict=True)
    for length, (confidence, agreement, area, refined_iou), left_out in rows:
        marks.append(Mark(files[start : start + length], confidence, agreement, area, refined_iou, left_out))
        start += length
    return marks
