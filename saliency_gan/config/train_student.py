"""Settings of `train-student`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.config.self_training import SelfTrainingConfig
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class TrainStudentConfig(SelfTrainingConfig):
    """Trains a student that knows photos: it learns from a teacher's marks of them, then becomes the next teacher.

    Args:
        teacher: Saliency model that marks the photos of the first round (model.safetensors or its folder); by default
            that of the run's train-saliency. `bundled` names the bundled one.
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

    def inputs(self) -> dict[str, Input]:
        own = self.run / "saliency"
        named = self.layout.saliency_model(self.teacher, ["saliency"])
        return {"teacher": Input(str(own), "missing", own) if named.without else named}

    def writes(self) -> list[Path]:
        return [self.run / "student" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]
