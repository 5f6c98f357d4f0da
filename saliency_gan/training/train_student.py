"""`train-student`: a teacher trained on generated images marks photos, and a student learns from its marks."""

import copy
import dataclasses
from pathlib import Path

import torch

from saliency_gan.compute.devices import make_fabric
from saliency_gan.compute.processes import is_main
from saliency_gan.config import TrainStudentConfig
from saliency_gan.config.self_training import ROUND_SETTINGS, at_round
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.training.self_training import outcome, run_rounds


def train_student(config: TrainStudentConfig) -> Path:
    """Trains a student on photos without masks, and resumes where an earlier run stopped.

    Returns:
        The weights file, `run/student/model.safetensors`. The same folder holds config.json, rounds.json, rounds.png
        and preview.png.

    Raises:
        UserError: If a setting, the photos, the teacher, the encoder's weights or the checkpoint cannot be used.
        StageError: If the teacher is confident on hardly any photo, or a file cannot be written.
    """
    config.check()
    fabric = make_fabric(config.device, config.precision)
    teacher = load_model(config.inputs()["teacher"].path)

    def new_model(number: int, before: SaliencyModel) -> SaliencyModel:
        resolution = at_round(config.resolutions or (teacher.architecture.resolution,), number)
        if number and not at_round(config.restart, number):
            return resized(before, resolution)
        architecture = SaliencyArchitecture(
            architecture=config.architecture,
            encoder=config.encoder,
            decoder_channels=config.decoder_channels,
            resolution=resolution,
            output_stride=config.output_stride,
            encoder_norms=config.encoder_weights == "none",
        )
        torch.manual_seed(config.seed + number)
        return SaliencyModel(architecture, config.encoder_weights)

    with StageFolder(config, "student", changeable=ROUND_SETTINGS) as folder:
        model = run_rounds(config, folder, fabric, teacher, new_model)
        output = folder.path / "model.safetensors"
        if is_main():
            model.save(folder.path)
    print(outcome(model, output))
    return output


def resized(model: SaliencyModel, resolution: int) -> SaliencyModel:
    """Returns a copy of a model with another resolution."""
    model = copy.deepcopy(model)
    model.architecture = dataclasses.replace(model.architecture, resolution=resolution)
    return model
