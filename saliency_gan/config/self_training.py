"""Settings of `train-student` and `adapt`, which both learn from a model's own marks of unlabelled photos."""

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

Refinement = Literal["solver", "grabcut", "none"]
Value = TypeVar("Value")

ROUND_SETTINGS = ("resolutions", "thresholds", "refine", "loss", "restart")
"""Settings with a value for each round, or one for all."""


@dataclass(frozen=True, kw_only=True)
class SelfTrainingConfig(StageConfig):
    """What both verbs share.

    Args:
        images: Folders of unlabelled photos, each searched with its subfolders.
        max_images: Most photos to use, drawn at random: the same number from each folder, as far as it has them.
        held_out: Photos that are never trained on; how well a model's views of them agree decides whether it is kept.
        steps: Training steps of each round; there are as many rounds as numbers.
        resolutions: Side in pixels at which a round's model sees photos, a multiple of 32; one number for each round,
            or one for all. [] takes that of the model to start from.
        thresholds: Saliency from which a pixel is marked; one number for each round, or one for all. A model that has
            seen only a generator's images is less sure of photos, so it needs a lower one.
        scales: Factors of the resolution at which a photo is marked, each as it is and mirrored.
        min_confidence: Photos whose mean certainty |2 p - 1| is lower are left out, 0 to 1.
        min_agreement: Photos whose masks under flips and scales agree with a lower IoU are left out, 0 to 1.
        min_area: Photos whose mask covers a smaller share are left out.
        max_area: Photos whose mask covers a larger share are left out.
        refine: How a mask's outline moves to where the photo's colours change: solver is the fast bilateral solver,
            grabcut is GrabCut, none leaves it. One for each round, or one for all; held-out photos get the last one.
        mark_side: Side in pixels of the masks, and of the photo as refinement sees it.
        solver_smoothness: Lambda of the solver: the higher, the further outlines move.
        grabcut_iterations: Iterations of GrabCut.
        grabcut_certainty: Saliency from which a pixel is surely foreground to GrabCut, and surely background below 1
            minus this, 0.5 to 1.
        min_refined_iou: Where the refined mask overlaps the model's own with a lower IoU, the model's own is kept.
        max_fall: A round whose agreement is lower than the best one so far by more than this is not kept, and no round
            follows it.
        batch: Photos per step, over all processes of a torchrun job together.
        lr: Highest learning rate of a round; it rises to it and falls to 0 along a cosine.
        encoder_lr: The encoder's learning rate as a share of lr.
        frozen_stride: The encoder's layers up to its map of this stride stay as they are; 1 trains all.
        weight_decay: Weight decay of AdamW.
        ema: Decay per step of the averaged weights, the ones that are kept and mark the next round's photos.
        loss: bce, bce+dice, bce+iou or iou; one for each round, or one for all.
        augment: Augmentation: none, flips, photos (flips, zooms, colour, blur), or full (the one for generated pairs).
        photos: Folder with images/ and masks/ of photos that every round is measured on, for the record only.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
        workers: Processes that augment; 0 does it in the main process; by default one for every core but one, 16 at
            most.
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
    refine: tuple[Refinement, ...] = ("grabcut",)
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
        require_positive(self, "batch", "held_out", "max_images", "mark_side", "grabcut_iterations")
        require_positive(self, "checkpoint_every", "log_every")
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
    """A round's value of a setting that has one for each round, or one for all."""
    return values[number] if len(values) > 1 else values[0]
