"""Settings of `train-student`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.config.self_training import SelfTrainingConfig
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class TrainStudentConfig(SelfTrainingConfig):
    """Trains a student on photos: it learns from a teacher's marks (predicted masks), then becomes the next teacher.

    Args:
        teacher: Saliency model that marks the photos of the first round: model.safetensors or its folder, or `bundled`;
            by default the model of the run's train-saliency.
        architecture: The student's decoder in segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, ...
        encoder: The student's encoder.
        encoder_weights: imagenet starts with weights trained on ImageNet's class labels, none with random weights; then
            give --frozen_stride 1 and --encoder_lr 1, too, because random layers have to be trained.
        decoder_channels: Channels of the decoder blocks, coarsest first.
        output_stride: A Unet computes its map at 1 / output_stride of the resolution; the map is then upsampled.
        restart: Whether a round starts again from the encoder's initial weights; otherwise it continues from the model
            of the round before. One value for each round, or one for all.
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

    def inputs(self) -> dict[str, Input]:
        own = self.run / "saliency"
        named = self.layout.saliency_model(self.teacher, ["saliency"])
        return {"teacher": Input(str(own), "missing", own) if named.without else named}

    def writes(self) -> list[Path]:
        return [self.run / "student" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]
