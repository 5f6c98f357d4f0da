"""Rounds of self-training: a teacher marks unlabelled photos. A model learns from the marks and becomes the teacher.

This is our own method, not the paper's. `train-student` and `adapt` use these rounds with different first models.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from saliency_gan.compute.processes import is_main, own_parts, total, world_size
from saliency_gan.config import SelfTrainingConfig, to_plain
from saliency_gan.config.self_training import MIN_PHOTOS, ROUND_SETTINGS, at_round
from saliency_gan.errors import StageError, UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.writing import write_image
from saliency_gan.runs.interrupts import delaying_interrupt, saving_on_interrupt
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.predictor import Predictor, resize
from saliency_gan.storage.files import write_json
from saliency_gan.training.area import keep_area
from saliency_gan.training.augmentation import Augmentation
from saliency_gan.training.learner import Learner, freeze, one_cycle
from saliency_gan.training.marking import MARKED_AT_ONCE, Mark, MarkedPhotos, mark_photos, pack, unpack
from saliency_gan.training.pairs import Mixture, Part
from saliency_gan.training.photos import Photos, read_photos
from saliency_gan.training.round_pictures import comparison, drawn, preview
from saliency_gan.training.validation import PhotoCheck

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATISTICS_BATCHES, STATISTICS_BATCH = 16, 32
COMPARED_PHOTOS = 12
"""Number of held-out photos in rounds.png."""
AREA_PHOTOS = 256
"""Number of photos from whose marks the area of the next model is set, see `keep_area`."""
MARKS_SAVED_EVERY = 1024
"""Number of photos to mark between two checkpoints, a multiple of MARKED_AT_ONCE."""
PATHS = ("run", "images", "teacher", "weights", "shards", "photos")


def run_rounds(
    config: SelfTrainingConfig,
    folder: StageFolder,
    fabric: "Fabric",
    teacher: SaliencyModel,
    new_model: Callable[[int, SaliencyModel], SaliencyModel],
    synthetic: Sequence[Part] = (),
    synthetic_identity: Mapping[str, Any] = MappingProxyType({}),
) -> SaliencyModel:
    """Does all rounds, and writes pictures and tables of them. It resumes where an earlier run stopped.

    In each round, the teacher marks the photos, and its confident masks are refined by colour. A model learns from them
    and becomes the next teacher. After each round, the model marks the held-out photos; their mean `Mark.score` is the
    agreement. If the agreement is below the best earlier one by `config.max_fall` or more, the round is not kept and
    training ends.

    Args:
        config: The settings.
        folder: Folder for checkpoints, metrics.jsonl, rounds.json, rounds.png and preview.png.
        fabric: Device and precision.
        teacher: Model that marks the photos in the first round.
        new_model: Takes the number of a round, from 0 on, and the round's teacher. Returns the model to train in this
            round, with the round's resolution.
        synthetic: Generated pairs that each batch gets in addition to the photos.
        synthetic_identity: What these pairs were drawn from.

    Returns:
        The model that was kept; its `about` describes the training.

    Raises:
        UserError: If a setting, the photos or the checkpoint cannot be used.
        StageError: If the teacher is confident on hardly any photo.
    """
    # Builds the first model now, so that errors appear before any photo is marked.
    freeze(new_model(0, teacher).requires_grad_(True), config.frozen_stride)
    largest = max([*config.resolutions, teacher.architecture.resolution]) * max(1.0, *config.scales)
    side = max(config.mark_side, round(largest))
    photos = read_photos(config.images, side, config.max_images, config.seed)
    rounds = _Rounds(config, fabric, teacher, new_model, photos, synthetic, synthetic_identity)
    if not folder.resume(rounds.load_state):
        folder.log(0, **rounds.begin())
        folder.save_checkpoint(rounds.state())
    _show(rounds, folder)  # an earlier run may have been killed after the checkpoint, before it wrote these files
    while rounds.number < len(config.steps) and not rounds.finished:
        with saving_on_interrupt(lambda: folder.save_checkpoint(rounds.state())):
            _run_round(rounds, folder)
    if rounds.finished:
        print(f"the agreement of round {rounds.number} was too low: it is not kept, and no round follows")
    return rounds.kept_model()


def outcome(kept: SaliencyModel, output: Path) -> str:
    """Says in one sentence which model `run_rounds` kept, and where it is."""
    number, agreement = kept.about["round"], kept.about["agreement"]
    if number:
        return f"the model of round {number}, agreement {agreement:.3f}, is {output}"
    return f"no round was kept, so {output} is the model as it was, agreement {agreement:.3f}"


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
    """Holds the teacher, its marks, the learner of the current round, and the best model so far."""

    def __init__(
        self,
        config: SelfTrainingConfig,
        fabric: "Fabric",
        teacher: SaliencyModel,
        new_model: Callable[[int, SaliencyModel], SaliencyModel],
        photos: Photos,
        synthetic: Sequence[Part],
        synthetic_identity: Mapping[str, Any],
    ) -> None:
        self.config, self.fabric, self.new_model, self.synthetic = config, fabric, new_model, synthetic
        self.teacher = self._first_teacher = teacher.to(fabric.device)
        order = torch.randperm(len(photos), generator=random_stream(config.seed, Stream.PHOTOS, 1)).tolist()
        held_out = min(config.held_out, len(photos) // 5)
        self.held_out, self.photos = photos.subset(order[:held_out]), photos.subset(order[held_out:])
        if len(self.photos) < MIN_PHOTOS:
            raise UserError(
                f"{len(photos)} photos can be read and {held_out} of them are held out, but {MIN_PHOTOS} or more have"
                f" to be left: give {MIN_PHOTOS * 5 // 4} or more, or lower --held_out."
            )
        self.identity = {"model": teacher.sha256, "photos": photos.sha256, "pairs": dict(synthetic_identity)}
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
        """Total steps of all finished rounds."""
        return sum(self.config.steps[: self.number])

    def begin(self) -> dict[str, float]:
        """Measures the first teacher."""
        measured = self._measure(self.teacher, 0)
        self._adopt(self.teacher, measured)
        return measured

    def mark(self, save: Callable[[], None]) -> None:
        """Marks all photos that are not marked yet; calls `save` every MARKS_SAVED_EVERY photos and at the end."""
        config = self.config
        if len(self.marks) < len(self.photos):
            # After an interrupt within a batch, this marks the whole batch again, so the network sees the same batches.
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
        """Prepares training on the marks, or resumes it."""
        config = self.config
        marked = MarkedPhotos(self.photos, self.marks)
        if len(marked) < MIN_PHOTOS:
            reasons = Counter(mark.left_out for mark in self.marks if mark.left_out).most_common()
            raise StageError(
                f"{len(marked)} of {len(self.photos)} photos are left to train on, too few"
                f" ({', '.join(f'{count} {reason}' for reason, count in reasons)}): lower --min_confidence,"
                " --min_agreement or --min_area, raise --max_area, or train the model longer first."
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
        """Returns the EMA model, with batch statistics of the photos and the teacher's area, and its metrics.

        The weights of the learner's EMA model do not change, so this can be repeated after an interrupt.
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
        """Ends the round: the model from `measure_round` becomes the next teacher."""
        reasons = Counter(mark.left_out for mark in self.marks if mark.left_out)
        self.number += 1
        self._adopt(model, measured)
        self.history[-1]["left_out"] = dict(reasons)
        self.learner, self.marks = None, []

    def _adopt(self, model: SaliencyModel, measured: dict[str, float]) -> None:
        """Makes a model the teacher, and stores it as the model to keep unless its agreement fell too far."""
        self.teacher = model
        best = max((past["agreement"] for past in self.history), default=-1.0)
        self.history.append({"round": self.number, "resolution": model.architecture.resolution, **measured})
        predictor = self._predictor(model)
        maps = predictor.mark([predictor.squeeze(photo) for photo in self._few()])
        self.compared += [drawn(map_) for map_ in maps]
        # A model that gains nothing is not better than the one before.
        if measured["agreement"] > best - self.config.max_fall:
            weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            self.kept = {"round": self.number, **measured, "weights": weights}
        else:
            self.finished = True

    def _measure(self, model: SaliencyModel, number: int) -> dict[str, float]:
        """Measures a model on the held-out photos, and on the photos with masks if there are any.

        The threshold is that of round `number`, counted from 0; after the last round, it is that of the last round.
        """
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
        # All processes measure the same. The mean gives them exactly equal values, so they decide in the same way.
        return dict(zip(measured, total(value / world_size() for value in measured.values()), strict=True))

    def _schedule(self, count: int) -> list[list[Any]]:
        """For each of the first `count` rounds: the steps and the other settings that have a value per round."""
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
        """Held-out photos, each with the maps of all models below it, first teacher first; uint8 [H, W, 3]."""
        return comparison(self._few(), self.compared)

    def kept_model(self) -> SaliencyModel:
        """Returns the model of the last round that was kept; its `about` describes the training."""
        number = self.kept["round"]
        model = copy.deepcopy(self.teacher) if number == self.number else self._model_of(number)
        model.load_state_dict(self.kept["weights"])
        settings = {key: value for key, value in to_plain(self.config).items() if key not in PATHS}
        kept = {key: value for key, value in self.kept.items() if key != "weights"}
        first_weights = {key: value for key, value in model.about.items() if key == "encoder_weights"}
        drawn_from = {"pairs": self.identity["pairs"]} if self.synthetic else {}
        about = {"learned_from": self.began_with, **drawn_from, "photos": len(self.photos), **kept, "config": settings}
        model.about = first_weights | about
        return model.eval()

    def _model_of(self, number: int) -> SaliencyModel:
        """Builds a model like the one after `number` rounds; 0 gives the first teacher. The caller sets the weights."""
        model = self._first_teacher
        for index in range(number):
            model = self.new_model(index, model)
        return model

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume."""
        unfinished = self.learner.state() if self.learner else self._unfinished
        return {
            "step": self.steps_before + (unfinished["step"] if unfinished else 0),
            "number": self.number,
            "finished": self.finished,
            "identity": self.identity,
            "schedule": self._schedule(self.number + 1),
            "refined_by": self.config.refine[-1],
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
        now = self.config.refine[-1]
        if (before := state.get("refined_by", now)) != now:
            raise UserError(
                f"The models in {self.config.run} were compared after --refine {before}, and these settings compare"
                f" them after {now}: let --refine end with {before}, or choose another folder with --run."
            )
        if state["number"] > len(self.config.steps):
            raise UserError(
                f"{self.config.run} has done {state['number']} rounds already, more than the {len(self.config.steps)}"
                " values of --steps: give as many, or choose another folder with --run."
            )
        others = [name for name, value in self.identity.items() if state["identity"].get(name, value) != value]
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
