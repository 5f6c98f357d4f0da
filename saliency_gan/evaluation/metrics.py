"""The usual metrics of a saliency map against a ground-truth mask.

How they are computed:

- A pixel of a mask is foreground if it is brighter than half.
- MAE, IoU and accuracy use the map as it is; IoU and accuracy have threshold 0.5.
- F (beta^2 = 0.3), weighted F, S and E are computed by pysodmetrics. Each map is first stretched to [0, 1]. F and E are
  computed at 256 thresholds. The curve of F is averaged over the images, and max F and mean F are taken from this mean
  curve. E is the mean of its curve. Adaptive F has one threshold per image, twice the map's mean.
- Everything is averaged over the images, at the masks' sizes.

This module imports neither torch nor the rest of the package, so that processes that only score start fast.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import py_sod_metrics
from numpy.typing import NDArray

Map = NDArray[np.uint8] | NDArray[np.floating]
Curve = NDArray[np.float64]

THRESHOLD = 0.5
BETA_SQUARED = 0.3
METRICS = {
    "max_f": "max F",
    "mean_f": "mean F",
    "adaptive_f": "adaptive F",
    "weighted_f": "weighted F",
    "s_measure": "S",
    "e_measure": "E",
    "iou": "IoU",
    "accuracy": "accuracy",
    "mae": "MAE",
}
"""Key of each figure and its name in tables, in their order. All are in [0, 1]. Lower is better only for MAE."""


@dataclass(frozen=True)
class ImageScores:
    """The scores of one map against one mask, every value in [0, 1].

    Attributes:
        mae: Mean absolute error of the map as it is.
        iou: Intersection over union at threshold 0.5; 1 if both are empty.
        accuracy: Share of pixels that are right at threshold 0.5.
        adaptive_f: F at twice the mean of the stretched map.
        weighted_f: Weighted F (Margolin et al. 2014); 0 for an empty mask.
        s_measure: Structure measure (Fan et al. 2017).
        e_measure: Enhanced-alignment measure (Fan et al. 2018), mean over the thresholds. It is limited to 1, because
            it divides by the number of pixels minus one and could be slightly above 1.
        precision: float64 [256]; for element t, the pixels of the stretched map that are at least t / 255 are marked.
        recall: float64 [256], with the same thresholds.
        f: float64 [256], with the same thresholds.
    """

    mae: float
    iou: float
    accuracy: float
    adaptive_f: float
    weighted_f: float
    s_measure: float
    e_measure: float
    precision: Curve
    recall: Curve
    f: Curve


@dataclass(frozen=True)
class Curves:
    """Means over the images at the thresholds t / 255, t = 0 ... 255; float64 [256] each."""

    precision: Curve
    recall: Curve
    f: Curve


class SaliencyMetrics:
    """Collects the scores of many images.

    Example:
        >>> metrics = SaliencyMetrics()
        >>> metrics.update(np.array([[0.0, 1.0]]), np.array([[False, True]]))
        >>> metrics.compute()["iou"]
        1.0
    """

    def __init__(self) -> None:
        self.images: list[ImageScores] = []

    def update(self, prediction: Map, mask: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
        """Scores one map; arguments as `score_image`."""
        self.add(score_image(prediction, mask))

    def add(self, scores: ImageScores) -> None:
        """Adds one image's scores that were computed elsewhere."""
        self.images.append(scores)

    def compute(self) -> dict[str, float]:
        """Key of METRICS -> mean over the images, and n, the number of images.

        Raises:
            ValueError: If there is no image.
        """
        curve = self.curves().f
        means = {key: self._mean(key) for key in METRICS if key not in ("max_f", "mean_f")}
        figures = {"max_f": float(curve.max()), "mean_f": float(curve.mean()), **means}
        return {key: figures[key] for key in METRICS} | {"n": len(self.images)}

    def curves(self) -> Curves:
        """Mean curves over the images.

        Raises:
            ValueError: If there is no image.
        """
        if not self.images:
            raise ValueError("There is no image to compute metrics of: call update first.")
        return Curves(
            *(np.mean([getattr(one, name) for one in self.images], axis=0) for name in ("precision", "recall", "f"))
        )

    def _mean(self, key: str) -> float:
        return float(np.mean([getattr(one, key) for one in self.images]))


def score_image(prediction: Map, mask: NDArray[np.uint8] | NDArray[np.bool_]) -> ImageScores:
    """Scores one map against one mask.

    Args:
        prediction: Saliency, float [H, W] in [0, 1] or uint8 [H, W] in 0 ... 255.
        mask: Ground truth, bool [H, W] or uint8 [H, W], foreground above 127.

    Raises:
        ValueError: If the shapes differ, or a value of the map is out of range.
    """
    truth = mask.astype(bool) if mask.dtype == bool else mask > 127
    saliency = prediction / 255 if prediction.dtype == np.uint8 else prediction.astype(np.float64)
    if saliency.shape != truth.shape or saliency.ndim != 2:
        raise ValueError(f"The map is {saliency.shape}, the mask {truth.shape}: both have to be [H, W].")
    if not (saliency.min() >= 0 and saliency.max() <= 1):  # also refuses NaN
        raise ValueError(f"The map covers {saliency.min()} to {saliency.max()}, but has to stay in [0, 1].")
    marked = saliency >= THRESHOLD
    union = np.count_nonzero(marked | truth)
    stretched = min_max(saliency)
    f = _run(
        py_sod_metrics.FmeasureV2(
            {
                "precision": py_sod_metrics.PrecisionHandler(with_dynamic=True, with_adaptive=False),
                "recall": py_sod_metrics.RecallHandler(with_dynamic=True, with_adaptive=False),
                "f": py_sod_metrics.FmeasureHandler(with_dynamic=True, with_adaptive=True, beta=BETA_SQUARED),
            }
        ),
        stretched,
        truth,
    )
    # pysodmetrics orders its thresholds from 255 down to 0.
    precision, recall, curve = (f[name]["dynamic"][::-1] for name in ("precision", "recall", "f"))
    return ImageScores(
        mae=float(np.abs(saliency - truth).mean()),
        iou=np.count_nonzero(marked & truth) / union if union else 1.0,
        accuracy=float((marked == truth).mean()),
        adaptive_f=float(f["f"]["adaptive"]),
        weighted_f=float(_run(py_sod_metrics.WeightedFmeasure(), stretched, truth)["wfm"]),
        s_measure=float(_run(_Smeasure(), stretched, truth)["sm"]),
        e_measure=min(1.0, float(_run(py_sod_metrics.Emeasure(), stretched, truth)["em"]["curve"].mean())),
        precision=precision,
        recall=recall,
        f=curve,
    )


def min_max(saliency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stretches a map so that its lowest value is 0 and its highest is 1; a constant map stays as it is."""
    low, high = saliency.min(), saliency.max()
    return (saliency - low) / (high - low) if high > low else saliency


def _run(metric: py_sod_metrics.FmeasureV2, saliency: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, Any]:
    metric.step(saliency, truth, normalize=False)
    return metric.get_results()


class _Smeasure(py_sod_metrics.Smeasure):  # type: ignore[misc]  # the library has no types
    """S without NaN if the object's centroid lies on the last row or column, so that a quadrant is empty."""

    def ssim(self, pred: NDArray[np.float64], gt: NDArray[np.bool_]) -> float:
        return super().ssim(pred, gt) if pred.size else 0.0  # the weight of an empty quadrant is 0
