"""Settings of `train-saliency`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.compute.processes import own_parts
from saliency_gan.compute.types import Precision
from saliency_gan.config.checks import require, require_not_negative, require_positive, require_share
from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class TrainSaliencyConfig(StageConfig):
    """Stage 3: trains a U-Net saliency model on synthetic pairs.

    Args:
        source: shards reads the run's masks folder; generator synthesises pairs on the fly with the masks settings.
        shards: Folder with shards and manifest.json, or its http or https address, which is downloaded into the cache;
            by default the run's masks folder.
        architecture: Decoder of segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, ...
        encoder: Encoder of segmentation-models-pytorch.
        encoder_weights: none starts with random weights and downloads nothing; imagenet starts with weights trained on
            ImageNet's class labels: tu-tf_efficientnet_lite0, lite1 and lite2 take them from an installed package,
            other encoders download them.
        decoder_channels: Channels of the decoder, coarsest first, one value for each downsampling of the encoder; []
            takes the library's default.
        resolution: Side in pixels of the training images, a multiple of 32.
        steps: Training steps.
        batch: Pairs per step, summed over all processes of a torchrun job.
        loss: bce+dice, bce+iou, iou, or paper (cross-entropy on two logits divided by 10).
        optimiser: adamw or adam.
        lr: Learning rate at the start.
        weight_decay: Weight decay of adamw.
        lr_drops: Steps, as shares of all steps, at which the learning rate is multiplied by lr_factor.
        lr_factor: Factor of the learning rate at each drop.
        ema: EMA decay per step of the weights; the averaged weights are saved.
        augment: Augmentation: none, flips, or full (flips, crops, zoom-out, colour, blur, JPEG, resampling, dropout).
        backdrop: Share of the pairs whose objects are first resized and pasted onto textures from other images, 0 to 1.
        validation_pairs: Synthetic pairs that are held out of training.
        photos: Folder with images/ and masks/ of photos. Every checkpoint is measured on them, and the one with the
            best IoU is kept. Without this folder, the last checkpoint is kept.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 if the hardware supports it, else fp32.
        accumulate: Gradient accumulation: each batch is split into this many parts to save memory; the batch size stays
            the same.
        compile: Compile the network with torch.compile; takes a minute at the start.
        workers: Processes that augment pairs from shards, for each process of a torchrun job; 0 augments in the main
            process; by default the number of cores minus 1, at most 16.
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
    loss: Literal["bce+dice", "bce+iou", "iou", "paper"] = "bce+dice"
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

    def inputs(self) -> dict[str, Input]:
        return {} if self.source == "generator" else {"pairs": self.layout.pairs(self.shards)}

    def reads(self) -> list[Path]:
        return [*super().reads(), *([self.photos] if self.photos else [])]

    def check(self) -> None:
        require_positive(self, "steps", "batch", "validation_pairs", "checkpoint_every", "log_every")
        own_parts(self.batch, self.accumulate)
        require_not_negative(self, "workers")
        require_not_negative(self, "lr", "weight_decay", "lr_factor")
        require_share(self, "backdrop")
        require(self, "ema", 0 <= self.ema < 1, "from 0 to below 1")
        require(self, "lr_drops", all(0 <= drop <= 1 for drop in self.lr_drops), "shares of the steps, from 0 to 1")

    def writes(self) -> list[Path]:
        return [self.run / "saliency" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]
