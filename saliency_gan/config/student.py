"""Settings of `train-student` and `adapt`, which both learn from a model's own marks of unlabelled photos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.compute.types import Precision
from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.files import is_address

Refinement = Literal["solver", "grabcut", "none"]


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


@dataclass(frozen=True, kw_only=True)
class TrainStudentConfig(SelfTrainingConfig):
    """Trains a student that knows photos: it learns from a teacher's marks of them, then becomes the next teacher.

    Args:
        teacher: Saliency model that marks the photos of the first round (model.safetensors or its folder); by default
            the run's saliency folder.
        architecture: The student's decoder in segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, ...
        encoder: The student's encoder.
        encoder_weights: imagenet starts from weights that were trained on ImageNet's class labels, none at random.
        decoder_channels: Channels of the decoder, coarsest first, one number for each of its blocks.
        output_stride: A Unet's map is computed at this fraction of the resolution and stretched.
        restart: Whether a round starts from the encoder's first weights; otherwise it goes on from the round before.
            One value for each round, or one for all.
    """

    run: Path = Path("runs/student")
    steps: tuple[int, ...] = (400, 400)
    resolutions: tuple[int, ...] = (160, 224)
    thresholds: tuple[float, ...] = (0.4, 0.5)
    lr: float = 1.5e-3
    teacher: Path | None = None
    architecture: str = "Unet"
    encoder: str = "tu-tf_efficientnet_lite2"
    encoder_weights: Literal["none", "imagenet"] = "imagenet"
    decoder_channels: tuple[int, ...] = (128, 64, 32, 16)
    output_stride: Literal[1, 2, 4] = 2
    restart: tuple[bool, ...] = (True,)

    def reads(self) -> list[Path]:
        teacher = self.teacher or self.run / "saliency" / "model.safetensors"
        return [*self.images, teacher, *([self.photos] if self.photos else [])]

    def writes(self) -> list[Path]:
        return [self.run / "student" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(SelfTrainingConfig):
    """Goes on training a saliency model on unlabelled photos of the kind that it will see.

    Args:
        weights: Saliency model to start from (model.safetensors or its folder); by default the run's student, else its
            saliency folder, else the bundled model.
        shards: Folder of synthetic pairs to mix in, or its address; by default the run's masks folder, where there is
            one.
        synthetic_share: Share of a batch that is synthetic pairs, 0 to 1.
        backdrop: Share of the synthetic pairs whose objects are put onto other grounds, as in train-saliency, 0 to 1.
    """

    weights: Path | None = None
    shards: str | Path | None = None
    synthetic_share: float = 0.0
    backdrop: float = 0.85

    def reads(self) -> list[Path]:
        given = [Path(path) for path in (self.weights, self.shards, self.photos) if path and not is_address(path)]
        return [*self.images, *given]

    def writes(self) -> list[Path]:
        return [self.run / "saliency-adapted" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]
