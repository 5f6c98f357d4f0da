"""Stage 3, `train-saliency`: trains the saliency model on synthetic pairs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from saliency_gan.compute.devices import make_fabric, peak_memory
from saliency_gan.compute.processes import is_main
from saliency_gan.config import MasksConfig, TrainSaliencyConfig, to_plain
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.writing import write_image
from saliency_gan.runs.interrupts import delaying_interrupt, saving_on_interrupt
from saliency_gan.runs.random_streams import Stream
from saliency_gan.runs.stage_folder import MEMORY_AFTER, StageFolder
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.training.augmentation import Augmentation
from saliency_gan.training.learner import Learner, learning_rate
from saliency_gan.training.pairs import Mixture, Pairs, Part
from saliency_gan.training.sources import Source, open_source
from saliency_gan.training.validation import PhotoCheck, measure_pairs, predict_squares

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATISTICS_BATCHES, STATISTICS_BATCH = 16, 32
PREVIEW_PAIRS = 16


def train_saliency(config: TrainSaliencyConfig, masks: MasksConfig | None = None) -> Path:
    """Trains the saliency model, and resumes where an earlier run stopped.

    Args:
        config: The stage's settings.
        masks: Settings of stage 2, used to draw pairs if `config.source` is generator.

    Returns:
        The weights file, `run/saliency/model.safetensors`. The same folder holds config.json and preview.png.

    Raises:
        UserError: If a setting, the pairs or the checkpoint cannot be used.
        StageError: If a file cannot be written, or a generator draws hardly any usable pair.
    """
    config.check()
    fabric = make_fabric(config.device, config.precision)
    with StageFolder(config, "saliency") as folder:
        source = open_source(config, masks)
        training = _Training(config, source, fabric)
        folder.resume(training.load_state)
        learner = training.learner
        batches = source.batches(learner.step, config.steps)
        progress = tqdm(total=config.steps, desc="train-saliency", initial=learner.step, unit="step")
        with progress, saving_on_interrupt(lambda: folder.save_checkpoint(training.state())):
            began, steps_before, first = time.perf_counter(), learner.step, learner.step
            if training.is_due():  # an interrupt came between this step and its validation
                _validate(training, folder)
            while learner.step < config.steps:
                rate = learning_rate(learner.step, config.steps, config.lr, config.lr_drops, config.lr_factor)
                with delaying_interrupt():
                    loss = learner.learn(*next(batches), rate)
                    training.position = source.position
                if learner.step == first + MEMORY_AFTER:
                    tqdm.write(peak_memory(fabric.device))
                progress.update()
                if learner.step % config.log_every == 0:
                    speed = (learner.step - steps_before) * config.batch / (time.perf_counter() - began)
                    folder.log(learner.step, loss=float(loss), learning_rate=rate, images_per_second=speed)
                    progress.set_postfix({"loss": f"{float(loss):.3f}", "images/s": f"{speed:.0f}", **training.shown()})
                    began, steps_before = time.perf_counter(), learner.step
                if training.is_due():
                    _validate(training, folder)
                    began, steps_before = time.perf_counter(), learner.step
        output = folder.path / "model.safetensors"
        if is_main():
            training.finished_model().save(folder.path)
    print(f"saliency model written to {output}")
    return output


def _validate(training: "_Training", folder: StageFolder) -> None:
    """Measures the EMA model, shows it, and saves a checkpoint."""
    measured = training.validate()
    with delaying_interrupt():
        folder.log(training.learner.step, **measured)
        if is_main():
            write_image(folder.path / "preview.png", training.preview())
        training.validated = training.learner.step
        folder.save_checkpoint(training.state())


class _Training:
    """Holds the learner, its validation data, and the best model so far."""

    def __init__(self, config: TrainSaliencyConfig, source: Source, fabric: "Fabric") -> None:
        architecture = SaliencyArchitecture(
            architecture=config.architecture,
            encoder=config.encoder,
            decoder_channels=config.decoder_channels,
            outputs=2 if config.loss == "paper" else 1,
            resolution=config.resolution,
        )
        torch.manual_seed(config.seed)
        model = SaliencyModel(architecture, config.encoder_weights)
        self.config, self.source, self.device = config, source, fabric.device
        settings = (config.loss, config.optimiser, config.weight_decay, config.ema, config.accumulate, config.compile)
        self.learner = Learner(model, fabric, *settings)
        self.photos = PhotoCheck(config.photos, fabric.device, config.precision) if config.photos else None
        unchanged = Augmentation("none", config.resolution)
        held_out = [
            unchanged(*pair, torch.Generator())
            for pair in zip(source.held_out.images, source.held_out.masks, strict=True)
        ]
        self.held_out = Pairs(np.stack([image for image, _ in held_out]), np.stack([mask for _, mask in held_out]))
        typical = Mixture(
            [Part(source.typical, STATISTICS_BATCH, config.backdrop)],
            Augmentation(config.augment, config.resolution),
            config.seed,
            Stream.STATISTICS,
        )
        self.typical = [typical[number][0] for number in range(STATISTICS_BATCHES)]
        self.position = source.position  # after the last finished step
        self.validated = 0
        self.measured: dict[str, float] = {}
        self.best: dict[str, Any] = {}

    def is_due(self) -> bool:
        """Whether the model has to be validated after this step and was not yet."""
        step, config = self.learner.step, self.config
        return step != self.validated and (step % config.checkpoint_every == 0 or step == config.steps)

    def validate(self) -> dict[str, float]:
        """Measures the EMA model, and stores it if it has the best IoU on the photos so far."""
        self.learner.measure_statistics(self.typical)
        average = self.learner.average
        measured = measure_pairs(average, self.device, self.held_out, self.config.precision)
        self.measured = {f"validation_{name}": value for name, value in measured.items()}
        if self.photos:
            self.measured |= self.photos.measure(average)
            if self.measured["photos_iou"] > self.best.get("photos_iou", -1.0):
                weights = {name: tensor.clone() for name, tensor in average.state_dict().items()}
                self.best = {**self.measured, "step": self.learner.step, "average": weights}
        return self.measured

    def shown(self) -> dict[str, str]:
        """The last measured IoU values, for the progress bar."""
        return {name: f"{value:.3f}" for name, value in self.measured.items() if name.endswith("_iou")}

    def preview(self) -> ImageArray:
        """A picture of held-out pairs, uint8 [H, W, 3]: a row of images, one of masks, one of the EMA model's maps."""
        few = self.held_out.subset(range(min(PREVIEW_PAIRS, len(self.held_out))))
        maps = (predict_squares(self.learner.average, self.device, few.images) * 255).astype(np.uint8)
        grey = [cv2.cvtColor(map_, cv2.COLOR_GRAY2RGB) for map_ in (*few.masks, *maps)]
        return grid([*few.images, *grey], len(few))

    def finished_model(self) -> SaliencyModel:
        """Returns the model to keep: the best one on the photos, or the last one without photos."""
        model = self.learner.average
        kept = {"step": self.learner.step, **self.measured}
        if self.best:
            model.load_state_dict(self.best["average"])
            kept = {key: value for key, value in self.best.items() if key != "average"}
        settings = {
            key: value for key, value in to_plain(self.config).items() if key not in ("run", "shards", "photos")
        }
        model.about |= {"trained_on": self.source.identity, **kept, "config": settings}
        return model

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume. Random streams depend only on the seed and the step."""
        return {
            **self.learner.state(),
            "source": self.source.identity,
            "position": self.position,
            "validated": self.validated,
            "measured": self.measured,
            "best": self.best,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`.

        Raises:
            UserError: If the checkpoint was made with other pairs.
        """
        if state["source"] != self.source.identity:
            raise UserError(
                f"The checkpoint in {self.config.run / 'saliency'} was trained on other pairs than there are now:"
                " choose another folder with --run, or delete it to begin again."
            )
        self.learner.load_state(state)
        self.source.position = self.position = state["position"]
        self.validated = state.get("validated", 0)
        self.measured, self.best = state["measured"], state["best"]
