"""Mistakes in what `predict` is asked for, found before anything is loaded."""

import os
from collections.abc import Sequence
from pathlib import Path

from saliency_gan.config import PredictConfig
from saliency_gan.errors import UserError
from saliency_gan.prediction.drawing import PHOTO_SUFFIXES
from saliency_gan.prediction.jobs import STREAM


def check_paths(paths: Sequence[Path]) -> None:
    """Refuses a call none of whose files and folders exists.

    Raises:
        UserError: With the first of them.
    """
    if paths and not any(path == STREAM or os.path.lexists(path) for path in paths):
        raise UserError(f"There is no {paths[0]}: give photos, videos, or folders of them.")


def check_settings(config: PredictConfig) -> None:
    """Refuses what cannot be done.

    Raises:
        UserError: With the setting, and what it may be.
    """
    if config.batch < 1:
        raise UserError(f"batch is {config.batch}, but has to be 1 or more.")
    if isinstance(config.threshold, str) and config.threshold != "otsu":
        raise UserError(f"threshold is {config.threshold}, but has to be a number from 0 to 1 or otsu.")
    if not isinstance(config.threshold, str) and not 0 <= config.threshold <= 1:
        raise UserError(
            f"threshold is {config.threshold}, but saliency lies between 0 and 1: choose one there, say 0.5."
        )
    unknown = [kind for kind in config.save if kind not in PHOTO_SUFFIXES]
    if unknown or not config.save:
        raise UserError(
            f"save is {','.join(config.save) or 'empty'}, but has to be some of {', '.join(PHOTO_SUFFIXES)}."
        )
    if config.refine not in ("none", "guided", "solver", "matting"):
        raise UserError(f"refine is {config.refine}, but has to be none, guided, solver or matting.")
    if config.background != "transparent" and "cutout" not in config.save:
        raise UserError(f"background is {config.background}, but only cut-outs have one: add cutout to --save.")
    if not 0 <= config.smooth < 1:
        raise UserError(f"smooth is {config.smooth}, but has to be at least 0 and below 1, say 0.5.")
    if config.refine == "matting":
        from saliency_gan.prediction.matting import import_pymatting

        import_pymatting()
