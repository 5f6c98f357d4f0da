"""`adapt`: self-training of the saliency model on unlabelled photos; ours, beyond the paper."""

import copy
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from tqdm import tqdm

from saliency_gan.config import AdaptConfig, to_plain
from saliency_gan.devices import make_fabric, own_parts
from saliency_gan.errors import StageError, UserError
from saliency_gan.images import ImageArray, grid, write_image
from saliency_gan.processes import is_main, total, world_size
from saliency_gan.runs import StageFolder, delaying_interrupt, random_stream, saving_on_interrupt
from saliency_gan.saliency.augmentation import Augmentation
from saliency_gan.saliency.learner import Learner, learning_rate
from saliency_gan.saliency.marking import Mark, mark_photos
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.pairs import Mixture, Pairs, Part
from saliency_gan.saliency.photos import MIN_PHOTOS, read_photos
from saliency_gan.saliency.predictor import Predictor, resize
from saliency_gan.saliency.sources import read_shards
from saliency_gan.saliency.streams import STREAM_PHOTOS, STREAM_SAMPLE, STREAM_STATISTICS
from saliency_gan.saliency.validation import PhotoCheck

DETAIL = 2
"""Photos are kept at this multiple of the training resolution: GrabCut and crops need the detail."""

STATISTICS_BATCHES, STATISTICS_BATCH = 16, 64
PREVIEW_PHOTOS = 24
PATHS = ("run", "images", "weights", "shards", "photos")


def adapt(config: AdaptConfig) -> Path:
    """Trains on the model's own masks of photos, resuming where an earlier run stopped.

    In every round the model of the round before marks the photos; the masks it is sure of are refined by colour and
    trained on, mixed with synthetic pairs. After every round the held-out photos are marked: their mean `Mark.score` is
    the agreement. The round with the highest agreement is kept, be it the model that adaptation began with, and no
    round follows one in which agreement did not rise.

    Returns:
        The weights file, `run/saliency-adapted/model.safetensors`; config.json and preview.png lie beside it.

    Raises:
        UserError: If a setting, the photos, the model or the checkpoint cannot be used.
        StageError: If the model is sure of hardly any photo, or a file cannot be written.
    """
    _check_settings(config)
    fabric = make_fabric(config.device, config.precision)
    model = load_model(config.weights or config.run / "saliency")
    side = config.resolution or model.architecture.resolution
    with StageFolder(config, "saliency-adapted", changeable=("rounds",)) as folder:
        adaptation = _Adaptation(
            config, model, read_photos(config.images, side * DETAIL, config.max_images, config.seed), fabric
        )
        if state := folder.load_checkpoint():
            adaptation.load_state(state)
        else:
            folder.log(0, **adaptation.begin())
            folder.save_checkpoint(adaptation.state())
        while adaptation.round < config.rounds and not adaptation.finished:
            _run_round(adaptation, folder)
        output = folder.path / "model.safetensors"
        if is_main():
            adaptation.best_model().save(folder.path)
    best = adaptation.best
    print(f"model of round {best['round']}, agreement {best['agreement']:.3f}, written to {output}")
    return output


def _run_round(adaptation: "_Adaptation", folder: StageFolder) -> None:
    config = adaptation.config
    learner, mixture = adaptation.begin_round(folder)
    before = adaptation.round * config.steps
    batches = mixture.batches(learner.step, config.steps, config.workers)
    with saving_on_interrupt(lambda: folder.save_checkpoint(adaptation.state())):
        with tqdm(desc=f"round {adaptation.round + 1}", total=config.steps, initial=learner.step) as progress:
            while learner.step < config.steps:
                rate = learning_rate(learner.step, config.steps, config.lr, config.lr_drops, config.lr_factor)
                with delaying_interrupt():
                    loss = learner.learn(*next(batches), rate)
                progress.update()
                if learner.step % config.log_every == 0:
                    folder.log(before + learner.step, loss=float(loss), learning_rate=rate)
                    progress.set_postfix(loss=f"{float(loss):.3f}")
                if learner.step % config.checkpoint_every == 0 and learner.step < config.steps:
                    folder.save_checkpoint(adaptation.state())
        measured = adaptation.end_round()
    folder.log(before + config.steps, **measured)
    folder.save_checkpoint(adaptation.state())
    print("  ".join(f"{name} {value:.3f}" for name, value in measured.items()))


class _Adaptation:
    """The teacher that marks photos, the learner of the current round, and the best model so far."""

    def __init__(self, config: AdaptConfig, model: SaliencyModel, photos: ImageArray, fabric: Fabric) -> None:
        self.config, self.fabric, self.teacher = config, fabric, model.to(fabric.device)
        self.start = {"sha256": model.sha256, **model.about}
        self.side = config.resolution or model.architecture.resolution
        model.architecture = dataclasses.replace(model.architecture, resolution=self.side)
        order = torch.randperm(len(photos), generator=random_stream(config.seed, STREAM_PHOTOS, 1)).tolist()
        held_out = min(config.held_out, len(photos) // 5)
        self.held_out, self.photos = photos[order[:held_out]], photos[order[held_out:]]
        self.identity = {
            "model": model.sha256,
            "photos": hashlib.sha256(photos.data).hexdigest(),
            "steps": config.steps,
        }
        own = config.run / "masks"
        shards = config.shards or (own if own.is_dir() else None)
        self.synthetic = read_shards(shards)[0] if config.synthetic_share and shards else None
        self.check = PhotoCheck(config.photos, fabric.device, config.precision) if config.photos else None
        self.round, self.finished = 0, False
        self.learner: Learner | None = None
        self.kept = 0.0
        self.best: dict[str, Any] = {}
        self._unfinished: dict[str, Any] | None = None

    def begin(self) -> dict[str, float]:
        """Measures the model that adaptation begins with."""
        measured = self._measure(self.teacher)
        self._adopt(self.teacher, measured)
        return measured

    def begin_round(self, folder: StageFolder) -> tuple[Learner, Mixture]:
        """Marks the photos and prepares to train on them, or to go on with it."""
        config = self.config
        marks = mark_photos(self._predictor(self.teacher), self.photos, config)
        masks = {index: mark.mask for index, mark in enumerate(marks) if mark.mask is not None}
        self.kept = len(masks) / len(marks)
        if len(masks) < MIN_PHOTOS:
            raise StageError(
                f"The model is sure of {len(masks)} of {len(marks)} photos, too few to train on: lower min_confidence"
                " or min_agreement, or train the model longer first."
            )
        if is_main():
            write_image(folder.path / "preview.png", preview(self.photos, marks))
        pairs = Pairs(self.photos[list(masks)], np.stack(list(masks.values())))
        parts = [Part(pairs, config.batch)]
        if self.synthetic:
            count = round(config.batch * config.synthetic_share)
            parts = [Part(pairs, config.batch - count), Part(self.synthetic, count, config.backdrop)]
        augmentation = Augmentation(config.augment, self.side)
        own = own_parts(config.batch, accumulate=1)
        mixture = Mixture(parts, augmentation, config.seed, STREAM_SAMPLE, self.round, own=own)
        model = copy.deepcopy(self.teacher)
        self.learner = Learner(model, self.fabric, "bce+dice", "adamw", config.weight_decay, config.ema)
        if self._unfinished:
            self.learner.load_state(self._unfinished)
            self._unfinished = None
        return self.learner, mixture

    def end_round(self) -> dict[str, float]:
        """Gives the learner's average the photos' own batch statistics, measures it and makes it the next teacher."""
        assert self.learner is not None
        order = torch.randperm(len(self.photos), generator=random_stream(self.config.seed, STREAM_STATISTICS))
        batches = order[: STATISTICS_BATCHES * STATISTICS_BATCH].split(STATISTICS_BATCH)
        self.learner.measure_statistics(
            np.stack([resize(self.photos[index], self.side) for index in batch.tolist()]) for batch in batches
        )
        measured = {"photos_kept": self.kept, **self._measure(self.learner.average)}
        with delaying_interrupt():
            self.round += 1
            self._adopt(self.learner.average, measured)
            self.learner = None
        return measured

    def _adopt(self, model: SaliencyModel, measured: dict[str, float]) -> None:
        """Makes a model the teacher, and remembers it if its agreement is the highest yet."""
        self.teacher = model
        if measured["agreement"] > self.best.get("agreement", -1.0):
            weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            self.best = {"round": self.round, **measured, "weights": weights}
        else:
            self.finished = True

    def _measure(self, model: SaliencyModel) -> dict[str, float]:
        """Marks the held-out photos, and measures a model on the photos with masks where there are any."""
        marks = mark_photos(self._predictor(model), self.held_out, self.config)
        measured = {
            "agreement": float(np.mean([mark.score for mark in marks])),
            "held_out_kept": float(np.mean([mark.mask is not None for mark in marks])),
            "confidence": float(np.mean([mark.confidence for mark in marks])),
            "area": float(np.mean([mark.area for mark in marks])),
        }
        measured |= self.check.measure(model) if self.check else {}
        # The mean over the processes, which all measure the same, makes them agree on the last digit: it decides.
        return dict(zip(measured, total(value / world_size() for value in measured.values()), strict=True))

    def _predictor(self, model: SaliencyModel) -> Predictor:
        config = self.config
        return Predictor(model, self.fabric.device, self.side, config.scales, True, config.precision)

    def best_model(self) -> SaliencyModel:
        """The model of the best round, with what it was adapted on."""
        model = copy.deepcopy(self.teacher)
        model.load_state_dict(self.best["weights"])
        settings = {key: value for key, value in to_plain(self.config).items() if key not in PATHS}
        kept = {key: value for key, value in self.best.items() if key != "weights"}
        model.about = {"adapted_from": self.start, "photos": len(self.photos), **kept, "config": settings}
        return model

    def state(self) -> dict[str, Any]:
        """Everything needed to go on; marks are made again from the teacher."""
        unfinished = self.learner.state() if self.learner else None
        return {
            "step": self.round * self.config.steps + (unfinished["step"] if unfinished else 0),
            "round": self.round,
            "finished": self.finished,
            "identity": self.identity,
            "teacher": self.teacher.state_dict(),
            "best": self.best,
            "learner": unfinished,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`.

        Raises:
            UserError: If the checkpoint was made from another model, on other photos, or with other steps a round.
        """
        for name, value in self.identity.items():
            if state["identity"][name] != value:
                raise UserError(
                    f"The checkpoint in {self.config.run / 'saliency-adapted'} was made with other {name}:"
                    " choose another folder with --run, or delete it to begin again."
                )
        self.round, self.finished, self.best = state["round"], state["finished"], state["best"]
        self.teacher.load_state_dict(state["teacher"])
        self._unfinished = state["learner"]


def preview(photos: ImageArray, marks: list[Mark], columns: int = 12) -> ImageArray:
    """The first photos that were kept: pairs of a photo and the photo darkened outside its mask, uint8 [H, W, 3]."""
    tiles: list[ImageArray] = []
    for photo, mark in zip(photos, marks, strict=True):
        if mark.mask is not None and len(tiles) < 2 * PREVIEW_PHOTOS:
            tiles += [photo, np.where(mark.mask[:, :, None] > 0, photo, photo // 4)]
    return grid(tiles, columns)


def _check_settings(config: AdaptConfig) -> None:
    for name in (
        "rounds",
        "steps",
        "batch",
        "held_out",
        "max_images",
        "grabcut_iterations",
        "checkpoint_every",
        "log_every",
    ):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}, but has to be 1 or more.")
    own_parts(config.batch, accumulate=1)
    for name in (
        "synthetic_share",
        "backdrop",
        "min_confidence",
        "min_agreement",
        "min_area",
        "max_area",
        "min_refined_iou",
    ):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"{name} is {getattr(config, name)}, but has to be from 0 to 1.")
    if config.synthetic_share == 1:
        raise UserError("synthetic_share is 1, which leaves no photo in a batch: choose less, for example 0.25.")
    if not 0.5 <= config.grabcut_certainty <= 1:
        raise UserError(f"grabcut_certainty is {config.grabcut_certainty}, but has to be from 0.5 to 1.")
    if not config.scales or min(config.scales) <= 0:
        raise UserError(f"scales is {list(config.scales)}, but has to hold factors above 0, for example 1.0 and 1.5.")
    if config.resolution is not None and (config.resolution < 32 or config.resolution % 32):
        raise UserError(f"resolution is {config.resolution} px, but has to be a multiple of 32: choose 64, 96 or 128.")
