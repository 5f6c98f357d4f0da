"""What each result of `predict` depends on besides its file, so that results of other settings are made again."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from saliency_gan.config import PredictConfig
from saliency_gan.prediction.jobs import VIDEO_RESULT
from saliency_gan.saliency.photo_predictor import PhotoPredictor
from saliency_gan.storage.provenance import Source


def recipe_of(config: PredictConfig, predictor: PhotoPredictor, model: str) -> Callable[[str, str], str]:
    """Returns a function that takes a result, as `Job.key` names it, and its kind, and returns a digest of the settings
    that it depends on. Settings that change results by rounding alone, such as the precision, are not part of it.

    Args:
        config: The stage's settings.
        predictor: The model with its sides.
        model: The model's sha256.
    """
    maps: dict[str, object] = {"model": model, "sides": predictor.sides, "flip": predictor.flip}
    maps |= {"refine": config.refine}
    threshold: dict[str, object] = {"threshold": config.threshold}
    behind: dict[str, object] = {"background": config.background}
    if (image := Path(config.background)).is_file():
        behind["image"] = asdict(Source.of(image))
    of_kind = {"mask": threshold, "cutout": threshold | behind}

    def recipe(result: str, kind: str) -> str:
        parts = maps | of_kind.get(kind, threshold if config.refine == "matting" else {})
        if result.endswith(VIDEO_RESULT):
            parts = parts | {"smooth": config.smooth}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    return recipe
