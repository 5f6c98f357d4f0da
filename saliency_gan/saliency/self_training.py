"""Rounds of self-training: a model marks unlabelled photos, another one learns from the marks and marks the next round.

Ours, beyond the paper. `train-student` and `adapt` are these rounds with different beginnings.
"""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from tqdm import tqdm

from saliency_gan.compute.processes import is_main, own_parts, total, world_size
from saliency_gan.config import SelfTrainingConfig, to_plain
from saliency_gan.config.self_training import ROUND_SETTINGS, at_round
from saliency_gan.errors import StageError, UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.writing import write_image
from saliency_gan.runs.interrupts import delaying_interrupt, saving_on_interrupt
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.area import keep_area
from saliency_gan.saliency.augmentation import Augmentation
from saliency_gan.saliency.learner import Learner, freeze, one_cycle
from saliency_gan.saliency.marking import MARKED_AT_ONCE, Mark, MarkedPhotos, mark_photos, pack, unpack
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.pairs import Mixture, Part
from saliency_gan.saliency.photos import MIN_PHOTOS, Photos, read_photos
from saliency_gan.saliency.predictor import Predictor, resize
from saliency_gan.saliency.round_pictures import comparison, drawn, preview
from saliency_gan.saliency.validation import PhotoCheck
from saliency_gan.storage.files import write_json

STATISTICS_BATCHES, STATISTICS_BATCH = 16, 32
COMPARED_PHOTOS = 12
"""Held-out photos that rounds.png shows."""
AREA_PHOTOS = 256
"""Photos whose marks tell how much a model should mark."""
MARKS_SAVED_EVERY = 1024
"""Photos that are marked between checkpoints, a multiple of MARKED_AT_ONCE."""
PATHS = ("run", "images", "teacher", "weights", "shards", "photos")


def run_rounds(
    config: SelfTrainingConfig,
    folder: StageFolder,
    fabric: Fabric,
    teacher: SaliencyModel,
    new_model: Callable[[int, SaliencyModel], SaliencyModel],
    synthetic: Sequence[Part] = (),
) -> SaliencyModel:
    """Does all rounds, going on where an earlier run stopped, and writes the pictures and tables about them.

    In each round the teacher marks the photos; the masks that it is sure of are refined by colour; a model learns from
    them and becomes the next teacher. After each round the held-out photos are marked: their mean `Mark.score` is the
    agreement. A round whose agreement fell by more than `config.max_fall` is not kept, and no round follows it.

    Args:
        config: The settings.
        folder: Where checkpoints, metrics.jsonl, rounds.json, rounds.png and preview.png go.
        fabric: Device and precision.
        teacher: Marks the photos of the first round.
        new_model: Given a round, from 0 on, and its teacher, the model that learns in it; its resolution is that
            of the round.
        synthetic: What generated pairs give to each batch, beside the photos.

    Returns:
        The model that was kept, with `about` telling its history.

    Raises:
        UserError: If a setting, the photos or the checkpoint cannot be used.
        StageError: If the teacher is sure of hardly any photo.
    """
    # A model that cannot be built is refused before any photo is marked.
    freeze(new_model(0, teacher).requires_grad_(True), config.frozen_stride)
    side = max(config.mark_side, *config.resolutions, teacher.architecture.resolution)
    photos = read_photos(config.images, side, config.max_images, config.seed)
    rounds = _Rounds(config, fabric, teacher, new_model, photos, synthetic)
    if state := folder.load_checkpoint():
        rounds.load_state(state)
    else:
        folder.log(0, **rounds.begin())
        folder.save_checkpoint(rounds.state())
    _show(rounds, folder)  # a kill may have come between the checkpoint and these files
    while rounds.number < len(config.steps) and not rounds.finished:
        with saving_on_interrupt(lambda: folder.save_checkpoint(rounds.state())):
            _run_round(rounds, folder)
    return rounds.kept_model()


def _run_round(rounds: "_Rounds", folder: StageFolder) -> None:
    config, number = rounds.config, rounds.number
    steps = config.steps[number]
    rounds.mark(lambda: folder.save_checkpoint(rounds.state()))
    if is_main():
        write_image(folder.path / "preview.png", preview(rounds.photos, rounds.marks))
    learner, mixture = rounds.begin_round()
    batches = mixture.batches(learner.step, steps, config.workers)
    with tqdm(desc=f"round {number + 1}", total=steps, initial=learner.step, unit="step") as progress:
        while learner.step < steps:
            rate = one_cycle(learner.step, steps, config.lr)
            with delaying_interrupt():
                loss = learner.learn(*next(batches), rate)
            progress.update()
            if learner.step % config.log_every == 0:
                folder.log(rounds.steps_before + learner.step, loss=float(loss), learning_rate=rate)
                progress.set_postfix(loss=f"{float(loss):.3f}")
            if learner.step % config.checkpoint_every == 0 and learner.step < steps:
                folder.save_checkpoint(rounds.state())
    model, measured = rounds.measure_round()
    with delaying_interrupt():
        rounds.end_round(model, measured)
        folder.log(rounds.steps_before, **measured)
        folder.save_checkpoint(rounds.state())
        _show(rounds, folder)
    print("  ".join(f"{name} {value:.3f}" for name, value in measured.items()))


def _show(rounds: "_Rounds", folder: StageFolder) -> None:
    """Writes the table and the picture of all rounds so far."""
    if is_main():
        write_json(folder.path / "rounds.json", rounds.history)
        write_image(folder.path / "rounds.png", rounds.picture())


class _Rounds:
    """The teacher, its marks, the learner of the current round, and what is going to be kept."""

    def __init__(
        self,
        config: SelfTrainingConfig,
        fabric: Fabric,
        teacher: SaliencyModel,
        new_model: Callable[[int, SaliencyModel], SaliencyModel],
        photos: Photos,
        synthetic: Sequence[Part],
    ) -> None:
        self.config, self.fabric, self.new_model, self.synthetic = config, fabric, new_model, synthetic
        self.teacher = self._first_teacher = teacher.to(fabric.device)
        order = torch.randperm(len(photos), generator=random_stream(config.seed, Stream.PHOTOS, 1)).tolist()
        held_out = min(config.held_out, len(photos) // 5)
        self.held_out, self.photos = photos.subset(order[:held_out]), photos.subset(order[held_out:])
        self.identity = {"model": teacher.sha256, "photos": photos.sha256}
        self.began_with = {"sha256": teacher.sha256, **teacher.about}
        self.check = PhotoCheck(config.photos, fabric.device, config.precision) if config.photos else None
        self.number, self.finished = 0, False
        self.marks: list[Mark] = []
        self.learner: Learner | None = None
        self.kept: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.compared: list[ImageArray] = []
        self._unfinished: dict[str, Any] | None = None

    @property
    def steps_before(self) -> int:
        """Steps of all rounds that are done."""
        return sum(self.config.steps[: self.number])

    def begin(self) -> dict[str, float]:
        """Measures the model that marks first."""
        measured = self._measure(self.teacher, 0)
        self._adopt(self.teacher, measured)
        return measured

    def mark(self, save: Callable[[], None]) -> None:
        """Marks the photos, or those of them that are not marked yet; calls `save` now and then."""
        config = self.config
        if len(self.marks) < len(self.photos):
            # An interrupt may have come within a batch: the network sees the same batches as without it.
            del self.marks[len(self.marks) // MARKED_AT_ONCE * MARKED_AT_ONCE :]
        rest = self.photos.subset(range(len(self.marks), len(self.photos)))
        threshold, refine = at_round(config.thresholds, self.number), at_round(config.refine, self.number)
        for mark in mark_photos(self._predictor(self.teacher), rest, threshold, refine, config):
            self.marks.append(mark)
            if len(self.marks) % MARKS_SAVED_EVERY == 0:
                save()
        if len(rest):
            save()

    def begin_round(self) -> tuple[Learner, Mixture]:
        """Prepares to train on the marks, or to go on with it."""
        config = self.config
        marked = MarkedPhotos(self.photos, self.marks)
        if len(marked) < MIN_PHOTOS:
            raise StageError(
                f"The model is sure of {len(marked)} of {len(self.photos)} photos, too few to train on: lower"
                " min_confidence or min_agreement, or train the model longer first."
            )
        model = self.new_model(self.number, self.teacher)
        parts = [Part(marked, config.batch - sum(part.count for part in self.synthetic)), *self.synthetic]
        augmentation = Augmentation(config.augment, model.architecture.resolution)
        own = own_parts(config.batch, accumulate=1)
        mixture = Mixture(parts, augmentation, config.seed, Stream.PAIRS, self.number, own=own)
        learner = Learner(
            model,
            self.fabric,
            at_round(config.loss, self.number),
            "adamw",
            config.weight_decay,
            config.ema,
            encoder_lr=config.encoder_lr,
            frozen_stride=config.frozen_stride,
        )
        if self._unfinished:
            learner.load_state(self._unfinished)
        self.learner, self._unfinished = learner, None
        return learner, mixture

    def measure_round(self) -> tuple[SaliencyModel, dict[str, float]]:
        """The learner's average with the photos' own batch statistics and the teacher's area, and its figures.

        The learner keeps the average as it was, so that this can be interrupted and done again.
        """
        assert self.learner is not None
        model = self.learner.average
        order = torch.randperm(len(self.photos), generator=random_stream(self.config.seed, Stream.STATISTICS))
        batches = order[: STATISTICS_BATCHES * STATISTICS_BATCH].split(STATISTICS_BATCH)
        self.learner.measure_statistics(
            np.stack([resize(self.photos[index], model.architecture.resolution) for index in batch.tolist()])
            for batch in batches
        )
        if some := [index for index in order[:AREA_PHOTOS].tolist() if not self.marks[index].left_out]:
            model = copy.deepcopy(model)
            area = float(np.mean([self.marks[index].area for index in some]))
            keep_area(model, self._predictor(model), self.photos.subset(some), area)
        kept = float(np.mean([not mark.left_out for mark in self.marks]))
        return model, {"photos_kept": kept, **self._measure(model, self.number + 1)}

    def end_round(self, model: SaliencyModel, measured: dict[str, float]) -> None:
        """Makes the model that `measure_round` gave the next teacher."""
        reasons = Counter(mark.left_out for mark in self.marks if mark.left_out)
        self.number += 1
        self._adopt(model, measured)
        self.history[-1]["left_out"] = dict(reasons)
        self.learner, self.marks = None, []

    def _adopt(self, model: SaliencyModel, measured: dict[str, float]) -> None:
        """Makes a model the teacher, and remembers it if its agreement did not fall."""
        self.teacher = model
        best = max((past["agreement"] for past in self.history), default=-1.0)
        self.history.append({"round": self.number, "resolution": model.architecture.resolution, **measured})
        predictor = self._predictor(model)
        maps = predictor.mark([predictor.squeeze(photo) for photo in self._few()])
        self.compared += [drawn(map_) for map_ in maps]
        # A model that gains nothing is no better than the one before, which has seen more.
        if measured["agreement"] > best - self.config.max_fall:
            weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            self.kept = {"round": self.number, **measured, "weights": weights}
        else:
            self.finished = True

    def _measure(self, model: SaliencyModel, number: int) -> dict[str, float]:
        """Marks the held-out photos as round `number`, from 0 on, or the last one; measures where there are masks."""
        config = self.config
        threshold = at_round(config.thresholds, min(number, len(config.steps) - 1))
        # Always refined in the same way, so that rounds can be compared.
        marks = list(mark_photos(self._predictor(model), self.held_out, threshold, config.refine[-1], config))
        measured = {
            "agreement": float(np.mean([mark.score for mark in marks])),
            "held_out_kept": float(np.mean([not mark.left_out for mark in marks])),
            "confidence": float(np.mean([mark.confidence for mark in marks])),
            "area": float(np.mean([mark.area for mark in marks])),
        }
        measured |= self.check.measure(model) if self.check else {}
        # The mean over the processes, which all measure the same, makes them agree on the last digit: it decides.
        return dict(zip(measured, total(value / world_size() for value in measured.values()), strict=True))

    def _schedule(self, count: int) -> list[list[Any]]:
        """Of the first rounds the steps, and what else has a value for each round."""
        config = self.config
        given = [config.steps, *(getattr(config, name, ()) for name in ROUND_SETTINGS)]
        settings = [values for values in given if values]
        return [[at_round(values, number) for values in settings] for number in range(min(count, len(config.steps)))]

    def _predictor(self, model: SaliencyModel) -> Predictor:
        side = model.architecture.resolution
        return Predictor(model, self.fabric.device, side, self.config.scales, True, self.config.precision)

    def _few(self) -> list[ImageArray]:
        return [self.held_out[index] for index in range(min(COMPARED_PHOTOS, len(self.held_out)))]

    def picture(self) -> ImageArray:
        """Held-out photos, and below each what every model made of it, the first teacher first: uint8 [H, W, 3]."""
        return comparison(self._few(), self.compared)

    def kept_model(self) -> SaliencyModel:
        """The model of the last round that was kept, with what it was trained on."""
        number = self.kept["round"]
        model = copy.deepcopy(self.teacher) if number == self.number else self._model_of(number)
        model.load_state_dict(self.kept["weights"])
        settings = {key: value for key, value in to_plain(self.config).items() if key not in PATHS}
        kept = {key: value for key, value in self.kept.items() if key != "weights"}
        first_weights = {key: value for key, value in model.about.items() if key == "encoder_weights"}
        about = {"learned_from": self.began_with, "photos": len(self.photos), **kept, "config": settings}
        model.about = first_weights | about
        return model.eval()

    def _model_of(self, number: int) -> SaliencyModel:
        """A model like the one of a round, or for 0 the first teacher; its weights are still to be set."""
        model = self._first_teacher
        for index in range(number):
            model = self.new_model(index, model)
        return model

    def state(self) -> dict[str, Any]:
        """Everything needed to go on."""
        unfinished = self.learner.state() if self.learner else self._unfinished
        return {
            "step": self.steps_before + (unfinished["step"] if unfinished else 0),
            "number": self.number,
            "finished": self.finished,
            "identity": self.identity,
            "schedule": self._schedule(self.number + 1),
            "teacher": self.teacher.state_dict(),
            "kept": self.kept,
            "history": self.history,
            "compared": [torch.from_numpy(map_) for map_ in self.compared],
            "marks": pack(self.marks),
            "learner": unfinished,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`.

        Raises:
            UserError: If the checkpoint was made from another model, on other photos, or with other rounds.
        """
        others = [name for name, value in self.identity.items() if state["identity"][name] != value]
        if any(
            past != now for past, now in zip(state["schedule"], self._schedule(len(self.config.steps)), strict=False)
        ):
            others.append(f"steps, {', '.join(ROUND_SETTINGS[:-1])} or {ROUND_SETTINGS[-1]}")
        if others:
            raise UserError(
                f"The checkpoint in {self.config.run} was made with other {others[0]}: choose another folder with"
                " --run, or delete it to begin again."
            )
        self.number, self.finished, self.kept = state["number"], state["finished"], state["kept"]
        self.history, self.compared = state["history"], [map_.numpy() for map_ in state["compared"]]
        self.marks = unpack(state["marks"])
        self.teacher = self._model_of(self.number).to(self.fabric.device)
        self.teacher.load_state_dict(state["teacher"])
        self._unfinished = state["learner"]
