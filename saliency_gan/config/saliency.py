"""Settings of `train-saliency` and `adapt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.config.stage import Precision, StageConfig
from saliency_gan.files import is_address


@dataclass(frozen=True, kw_only=True)
class TrainSaliencyConfig(StageConfig):
    """Stage 3: trains a U-Net saliency model on synthetic pairs.

    Args:
        source: shards reads the run's masks folder; generator synthesises pairs on the fly with the masks settings.
        shards: Folder with shards and manifest.json, or its http or https address, which is downloaded into the cache;
            None takes the run's masks folder.
        architecture: Decoder of segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, ...
        encoder: Encoder of segmentation-models-pytorch.
        encoder_weights: none starts at random and downloads nothing; imagenet starts from weights that were trained
            on ImageNet's class labels: tu-tf_efficientnet_lite0, lite1 and lite2 take them from an installed package,
            other encoders download them.
        decoder_channels: Channels of the decoder, coarsest first, one number for every halving that the encoder does;
            [] takes the library's own.
        resolution: Side in pixels of the training images, a multiple of 32.
        steps: Training steps.
        batch: Pairs a step, over all processes of a torchrun job together.
        loss: bce+dice, or paper (cross-entropy on two logits divided by 10).
        optimiser: adamw or adam.
        lr: Learning rate at the start.
        weight_decay: Weight decay of adamw.
        lr_drops: Steps, as shares of all steps, at which the learning rate is multiplied by lr_factor.
        lr_factor: What a drop multiplies the learning rate by.
        ema: Decay a step of the averaged weights, the ones that are saved.
        augment: Augmentation: none, flips, or full (flips, crops, zoom-out, colour, blur, JPEG, resampling, dropout).
        backdrop: Share of the pairs whose objects are first put, resized, onto textures made of other images, 0 to 1.
        validation_pairs: Synthetic pairs that are held out of training.
        photos: Folder with images/ and masks/ of photos that every checkpoint is measured on; the one with the best IoU
            is kept. None measures none and keeps the last.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
        accumulate: Parts that a batch is done in, one after the other, to save memory; the batch stays as large.
        compile: Compile the network with torch.compile; takes a minute at the start.
        workers: Processes that augment pairs from shards, for every process of a torchrun job; 0 does it in the main
            process; None takes one for every core but one, 16 at most.
        checkpoint_every: Steps between checkpoints and validations.
        log_every: Steps between lines of metrics.jsonl.
    """

    source: Literal["shards", "generator"] = "shards"
    shards: str | Path | None = None
    architecture: str = "Unet"
    encoder: str = "resnet18"
    encoder_weights: Literal["none", "imagenet"] = "none"
    decoder_channels: tuple[int, ...] = (128, 64, 32, 16)
    resolution: int = 64
    steps: int = 4000
    batch: int = 64
    loss: Literal["bce+dice", "paper"] = "bce+dice"
    optimiser: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    lr_drops: tuple[float, ...] = (0.6, 0.85)
    lr_factor: float = 0.2
    ema: float = 0.998
    augment: Literal["none", "flips", "full"] = "full"
    backdrop: float = 0.85
    validation_pairs: int = 500
    photos: Path | None = None
    precision: Precision = "auto"
    accumulate: int = 1
    compile: bool = False
    workers: int | None = None
    checkpoint_every: int = 250
    log_every: int = 20

    def reads(self) -> list[Path]:
        pairs = self.run / "discover" if self.source == "generator" else self.shards or self.run / "masks"
        return [Path(path) for path in (pairs, self.photos) if path and not is_address(path)]

    def writes(self) -> list[Path]:
        return [self.run / "saliency" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(StageConfig):
    """Self-training of the saliency model on unlabelled photos; beyond the paper.

    Args:
        images: Folder of unlabelled photos, searched with its subfolders.
        max_images: Photos used at the most, drawn at random.
        held_out: Photos that are never trained on; their agreement decides which round is best.
        weights: Saliency model to start from (model.safetensors); None takes the run's saliency folder.
        shards: Folder of synthetic pairs to mix in, or its address; None takes the run's masks folder, where there is
            one.
        synthetic_share: Share of a batch that is synthetic pairs, 0 to 1.
        rounds: Rounds of marking photos and training on them at the most; it stops when agreement stops rising.
        resolution: Side in pixels at which photos are marked and trained on, a multiple of 32; None takes the model's.
        scales: Factors of resolution at which a photo is marked, each as it is and mirrored.
        threshold: Saliency from which a pixel is marked; below a half, because a model that only knows a generator's
            images is less sure of photos.
        min_confidence: Photos whose mean certainty |2 p - 1| is lower are left out, 0 to 1.
        min_agreement: Photos whose masks under flips and scales agree with a lower IoU are left out, 0 to 1.
        min_area: Photos whose mask covers a smaller share are left out.
        max_area: Photos whose mask covers a larger share are left out.
        refine: grabcut refines the masks by colour, none keeps them.
        grabcut_iterations: Iterations of GrabCut.
        grabcut_certainty: Saliency from which a pixel is surely foreground to GrabCut, and surely background below 1
            minus this, 0.5 to 1.
        min_refined_iou: Where the refined mask overlaps the model's own with a lower IoU, the model's own is kept.
        steps: Training steps a round.
        batch: Photos and synthetic pairs a step.
        lr: Learning rate at the start of a round.
        weight_decay: Weight decay of AdamW.
        lr_drops: Steps, as shares of a round's steps, at which the learning rate is multiplied by lr_factor.
        lr_factor: What a drop multiplies the learning rate by.
        ema: Decay a step of the averaged weights, the ones that mark the next round's photos.
        augment: Augmentation: none, flips, or full.
        backdrop: Share of the synthetic pairs whose objects are put onto other grounds, as in train-saliency, 0 to 1.
        photos: Folder with images/ and masks/ of photos that every round is measured on, for the record only.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
        workers: Processes that augment; 0 does it in the main process; None takes one for every core but one, 16 at
            most.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
    """

    images: Path = Path("data/photos")
    max_images: int = 10_000
    held_out: int = 300
    weights: Path | None = None
    shards: str | Path | None = None
    synthetic_share: float = 0.25
    rounds: int = 3
    resolution: int | None = None
    scales: tuple[float, ...] = (1.0, 1.5)
    threshold: float = 0.35
    min_confidence: float = 0.6
    min_agreement: float = 0.7
    min_area: float = 0.04
    max_area: float = 0.7
    refine: Literal["grabcut", "none"] = "grabcut"
    grabcut_iterations: int = 2
    grabcut_certainty: float = 0.95
    min_refined_iou: float = 0.5
    steps: int = 600
    batch: int = 32
    lr: float = 5e-4
    weight_decay: float = 1e-2
    lr_drops: tuple[float, ...] = (0.7,)
    lr_factor: float = 0.2
    ema: float = 0.99
    augment: Literal["none", "flips", "full"] = "full"
    backdrop: float = 0.85
    photos: Path | None = None
    precision: Precision = "auto"
    workers: int | None = None
    checkpoint_every: int = 200
    log_every: int = 20

    def reads(self) -> list[Path]:
        given = [Path(path) for path in (self.shards, self.photos) if path and not is_address(path)]
        return [self.images, self.weights or self.run / "saliency" / "model.safetensors", *given]

    def writes(self) -> list[Path]:
        return [self.run / "saliency-adapted" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]
