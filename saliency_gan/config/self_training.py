"""Settings of `train-student` and `adapt`, which both learn from masks that a model predicts for unlabelled photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from saliency_gan.compute.processes import own_parts
from saliency_gan.compute.types import Precision
from saliency_gan.config.checks import (
    LARGEST_RESOLUTION,
    require,
    require_not_negative,
    require_positive,
    require_share,
)
from saliency_gan.config.stage import StageConfig
from saliency_gan.errors import UserError

MarkRefinement = Literal["solver", "grabcut", "none"]
Value = TypeVar("Value")

MIN_PHOTOS = 16
"""Number of photos that training needs."""

ROUND_SETTINGS = ("resolutions", "thresholds", "refine", "loss", "restart")
"""Settings with one value for each round, or one value for all rounds."""


@dataclass(frozen=True, kw_only=True)
class SelfTrainingConfig(StageConfig):
    """Settings that both verbs share.

    Args:
        images: Folders of unlabelled photos; their subfolders are searched, too.
        max_images: Largest number of photos to use. They are drawn at random, the same number from each folder if it
            has enough.
        held_out: Photos that are never trained on, at most a fifth of all. They decide whether a model is kept, by the
            agreement of its masks under flips and scales.
        steps: Training steps of each round; the number of values is the number of rounds.
        resolutions: Side in pixels at which a round's model sees photos, a multiple of 32; one value for each round, or
            one for all. [] takes the resolution of the model to start from.
        thresholds: Pixels with at least this saliency belong to the mask; one value for each round, or one for all. A
            model that has seen only generated images is less sure on photos, so it needs a lower threshold.
        scales: Factors of the resolution at which each photo is marked; at each scale the photo and its mirror image
            are used.
        min_confidence: Photos with a lower mean confidence |2 p - 1| are left out, 0 to 1.
        min_agreement: Photos whose masks under flips and scales have a lower mean IoU are left out, 0 to 1.
        min_area: Photos whose mask covers a smaller share are left out.
        max_area: Photos whose mask covers a larger share are left out.
        refine: How a mask's outline is moved to colour edges of the photo: solver (the fast bilateral solver), grabcut
            (GrabCut) or none. One value for each round, or one for all; held-out photos use the last one.
        mark_side: Side in pixels of the masks, and of the photos during refinement.
        solver_smoothness: Lambda of the solver; higher values move outlines further.
        grabcut_iterations: Iterations of GrabCut.
        grabcut_certainty: For GrabCut, pixels with at least this saliency are certain foreground, and pixels below 1
            minus this are certain background, 0.5 to 1.
        min_refined_iou: If the IoU of the refined mask with the model's own mask is lower, the model's own mask is
            kept.
        max_fall: If the agreement of a round is lower than the best one so far by this or more, the round is not kept
            and training ends.
        batch: Photos per step, summed over all processes of a torchrun job.
        lr: Peak learning rate of each round: it is reached by a warm-up, then it falls to 0 along a cosine.
        encoder_lr: The encoder's learning rate as a share of lr.
        frozen_stride: The encoder's layers up to its feature map of this stride are frozen; 1 trains all layers.
        weight_decay: Weight decay of AdamW.
        ema: Decay per step of the averaged weights (EMA). These weights are kept, and mark the photos of the next
            round.
        loss: bce, bce+dice, bce+iou or iou; one value for each round, or one for all.
        augment: Augmentation: none, flips, photos (flips, zooms, colour, blur), or full (the one for generated pairs).
        photos: Folder with images/ and masks/ of photos. Every round is measured on them; this does not affect
            training.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 if the hardware supports it, else fp32.
        workers: Processes that augment, for each process of a torchrun job; 0 augments in the main process; by default
            the number of cores minus 1, at most 16.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
    """

    images: tuple[Path, ...] = (Path("data/photos"),)
    max_images: int = 10_000
    held_out: int = 300
    steps: tuple[int, ...] = (400,)
    resolutions: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = (0.5,)
    scales: tuple[float, ...] = (1.0,)
    min_confidence: float = 0.6
    min_agreement: float = 0.7
    min_area: float = 0.03
    max_area: float = 0.75
    refine: tuple[MarkRefinement, ...] = ("grabcut",)
    mark_side: int = 192
    solver_smoothness: float = 256.0
    grabcut_iterations: int = 2
    grabcut_certainty: float = 0.95
    min_refined_iou: float = 0.5
    max_fall: float = 0.0
    batch: int = 16
    lr: float = 5e-4
    encoder_lr: float = 0.1
    frozen_stride: Literal[1, 2, 4, 8, 16, 32] = 4
    weight_decay: float = 1e-2
    ema: float = 0.99
    loss: tuple[Literal["bce", "bce+dice", "bce+iou", "iou"], ...] = ("bce+dice",)
    augment: Literal["none", "flips", "photos", "full"] = "photos"
    photos: Path | None = None
    precision: Precision = "auto"
    workers: int | None = None
    checkpoint_every: int = 200
    log_every: int = 20

    def reads(self) -> list[Path]:
        return [*self.images, *super().reads(), *([self.photos] if self.photos else [])]

    def check(self) -> None:
        require(self, "images", bool(self.images), "the folder with the photos, as in --images DIR")
        require_positive(self, "batch", "held_out", "mark_side", "grabcut_iterations")
        require(self, "max_images", self.max_images >= MIN_PHOTOS, f"{MIN_PHOTOS} or more")
        require_positive(self, "checkpoint_every", "log_every")
        require_not_negative(self, "lr", "weight_decay")
        require(self, "steps", min(self.steps, default=0) >= 1, "1 or more for each round")
        for name in ROUND_SETTINGS:
            values = getattr(self, name, (True,))
            if len(values) not in (1, len(self.steps)) and (values or name != "resolutions"):
                raise UserError(
                    f"--{name} has {len(values)} values for {len(self.steps)} rounds: give one for each, or one for"
                    " all."
                )
        own_parts(self.batch, accumulate=1)
        require_not_negative(self, "workers")
        require(self, "solver_smoothness", 0 <= self.solver_smoothness < float("inf"), "0 or more")
        require_share(self, "min_confidence", "min_agreement", "min_area", "max_area", "min_refined_iou", "max_fall")
        require_share(self, "encoder_lr")
        require(self, "thresholds", all(0 <= value <= 1 for value in self.thresholds), "from 0 to 1")
        require(self, "grabcut_certainty", 0.5 <= self.grabcut_certainty <= 1, "from 0.5 to 1")
        require(self, "ema", 0 <= self.ema < 1, "from 0 to below 1")
        require(self, "scales", min(self.scales, default=0) > 0, "factors above 0, for example 1.0,1.5")
        sides = all(32 <= side <= LARGEST_RESOLUTION and side % 32 == 0 for side in self.resolutions)
        multiples = f"multiples of 32 and at most {LARGEST_RESOLUTION}: 160, 192, 224, ..."
        require(self, "resolutions", sides, multiples)


def at_round(values: Sequence[Value], number: int) -> Value:
    """Returns the value for one round, of a setting with one value for each round or one for all."""
    return values[number] if len(values) > 1 else values[0]
