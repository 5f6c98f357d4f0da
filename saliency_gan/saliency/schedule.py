"""The schedule of rounds of self-training, and which settings of them no run could use."""

from collections.abc import Sequence
from typing import TypeVar

from saliency_gan.compute.devices import own_parts
from saliency_gan.config import SelfTrainingConfig
from saliency_gan.errors import UserError
from saliency_gan.saliency.photo_predictor import LARGEST_RESOLUTION

Value = TypeVar("Value")


ROUND_SETTINGS = ("resolutions", "thresholds", "refine", "loss", "restart")
"""Settings with a value for each round, or one for all."""


def rounds_of(config: SelfTrainingConfig) -> int:
    """How many rounds there are."""
    return len(config.steps)


def at_round(values: Sequence[Value], number: int) -> Value:
    """A round's value of a setting that has one for each round, or one for all."""
    return values[number] if len(values) > 1 else values[0]


def check_settings(config: SelfTrainingConfig) -> None:
    """Refuses settings that no run could use.

    Raises:
        UserError: With the setting's name, its value, and what it has to be.
    """
    for name in ("batch", "held_out", "max_images", "mark_side", "grabcut_iterations", "checkpoint_every", "log_every"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}, but has to be 1 or more.")
    if not config.steps or min(config.steps) < 1:
        raise UserError(f"steps is {list(config.steps)}, but has to hold 1 or more for each round.")
    for name in ROUND_SETTINGS:
        values = getattr(config, name, (True,))
        if len(values) not in (1, rounds_of(config)) and (values or name != "resolutions"):
            raise UserError(
                f"{name} has {len(values)} values for {rounds_of(config)} rounds: give one for each, or one for all."
            )
    own_parts(config.batch, accumulate=1)
    if config.workers is not None and config.workers < 0:
        raise UserError(f"workers is {config.workers}, but has to be 0 or more.")
    if not 0 <= config.solver_smoothness < float("inf"):
        raise UserError(f"solver_smoothness is {config.solver_smoothness}, but has to be 0 or more.")
    shares = ("min_confidence", "min_agreement", "min_area", "max_area", "min_refined_iou", "max_fall", "encoder_lr")
    for name, value in [(name, getattr(config, name)) for name in shares] + [
        ("thresholds", value) for value in config.thresholds
    ]:
        if not 0 <= value <= 1:
            raise UserError(f"{name} is {value}, but has to be from 0 to 1.")
    if not config.images:
        raise UserError("images is empty: name the folder with the photos, --images DIR.")
    if not 0.5 <= config.grabcut_certainty <= 1:
        raise UserError(f"grabcut_certainty is {config.grabcut_certainty}, but has to be from 0.5 to 1.")
    if not 0 <= config.ema < 1:
        raise UserError(f"ema is {config.ema}, but has to be from 0 to below 1.")
    if not config.scales or min(config.scales) <= 0:
        raise UserError(f"scales is {list(config.scales)}, but has to hold factors above 0, for example 1.0 and 1.5.")
    for resolution in config.resolutions:
        if not 32 <= resolution <= LARGEST_RESOLUTION or resolution % 32:
            raise UserError(
                f"resolutions has {resolution} px, but has to hold multiples of 32 and at most {LARGEST_RESOLUTION}:"
                " 160, 192, 224, ..."
            )
