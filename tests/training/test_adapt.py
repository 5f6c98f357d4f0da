import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from saliency_gan.config import AdaptConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.images.reading import read_image
from saliency_gan.saliency.model import load_model
from saliency_gan.training import self_training
from saliency_gan.training.adapt import adapt
from saliency_gan.training.learner import Learner
from saliency_gan.training.validation import PhotoCheck
from tests.saliency.toys import discs, write_shards
from tests.training.watching import count_known


@pytest.fixture
def config(trained: Path, faint: Path, tmp_path: Path) -> AdaptConfig:
    return AdaptConfig(
        run=tmp_path / "run",
        images=(faint / "many" / "images",),
        max_images=30,
        weights=trained / "saliency",
        shards=trained / "masks",
        synthetic_share=0.25,
        photos=faint / "measured",
        device="cpu",
        precision="fp32",
        workers=0,
        steps=(8, 8),
        thresholds=(0.4,),
        batch=8,
        lr=3e-3,
        encoder_lr=1.0,
        frozen_stride=1,
        ema=0.6,
        augment="flips",
        refine=("grabcut",),
        mark_side=64,
        min_confidence=0.2,
        min_agreement=0.5,
        held_out=4,
        checkpoint_every=2,
        log_every=3,
    )


def metrics(config: AdaptConfig) -> list[dict[str, float]]:
    return [json.loads(line) for line in (config.run / "saliency-adapted" / "metrics.jsonl").read_text().splitlines()]


def fake_agreements(monkeypatch: pytest.MonkeyPatch, *agreements: float) -> None:
    values = iter(agreements)
    monkeypatch.setattr(self_training._Rounds, "_measure", lambda *_: {"agreement": next(values)})


def test_faint_discs_are_learnt_without_masks(config: AdaptConfig, faint: Path) -> None:
    path = adapt(config)
    start, end = (
        PhotoCheck(faint / "measured", torch.device("cpu")).measure(load_model(weights))["photos_iou"]
        for weights in (config.weights, path)
    )
    assert start < 0.87
    assert end > start + 0.05
    model, before = load_model(path), load_model(config.weights)
    assert model.architecture == before.architecture
    assert model.about["learned_from"] == {"sha256": before.sha256, **before.about}
    assert "trained_on" not in model.about and model.about["photos"] == 26
    assert not {"run", "images", "weights", "shards", "photos"} & set(model.about["config"])
    rounds = [line for line in metrics(config) if "agreement" in line]
    assert model.about["agreement"] == pytest.approx(max(line["agreement"] for line in rounds), abs=1e-5)
    assert rounds[1]["photos_iou"] > rounds[0]["photos_iou"]
    assert read_image(path.parent / "preview.png").shape[2] == 3


@pytest.mark.slow
@pytest.mark.parametrize("error", [SystemExit("killed"), KeyboardInterrupt()])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    config: AdaptConfig, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    config = replace(config, steps=(2, 3), max_fall=1.0, photos=None)
    whole = adapt(replace(config, run=config.run.parent / "whole"))
    learn, done = Learner.learn, 0

    def failing(self: Learner, *arguments: Any) -> torch.Tensor:
        nonlocal done
        if done == 4:
            raise error
        done += 1
        return learn(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(Learner, "learn", failing)
        adapt(config)
    assert adapt(config).read_bytes() == whole.read_bytes()
    assert metrics(config) == metrics(replace(config, run=config.run.parent / "whole"))


def test_a_round_that_falls_a_little_may_be_kept(
    config: AdaptConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_agreements(monkeypatch, 0.5, 0.45)
    adapt(replace(config, steps=(1,), max_fall=0.1, photos=None))
    said = capsys.readouterr().out
    assert "the model of round 1, agreement 0.450, is " in said and "rose" not in said


def test_the_best_round_is_kept_and_none_follows_a_fall(
    config: AdaptConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_agreements(monkeypatch, 0.5, 0.4, 0.9)
    kept = load_model(adapt(replace(config, steps=(1, 1), photos=None)))
    assert (kept.about["round"], kept.about["agreement"]) == (0, 0.5)
    said = capsys.readouterr().out
    assert "agreement of round 1 was too low: it is not kept, and no round follows" in said
    assert "no round was kept" in said and "is the model as it was, agreement 0.500" in said
    for name, weight in load_model(config.weights).named_parameters():
        torch.testing.assert_close(kept.get_parameter(name), weight)
    assert [line["agreement"] for line in metrics(config) if "agreement" in line] == [0.5, 0.4]


@pytest.mark.slow
def test_a_round_that_gains_nothing_is_not_kept(config: AdaptConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_agreements(monkeypatch, 0.5, 0.5)
    assert load_model(adapt(replace(config, steps=(1,), photos=None))).about["round"] == 0


def test_it_goes_on_with_the_runs_student_where_there_is_one(
    config: AdaptConfig, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    shutil.copytree(trained / "saliency", config.run / "saliency")
    config = replace(config, steps=(1,), photos=None, weights=None, synthetic_share=0.0)
    student = load_model(trained / "saliency")
    student.about = {"round": 7}
    (config.run / "student").mkdir()
    student.save(config.run / "student")
    fake_agreements(monkeypatch, 0.1, 0.2)
    assert load_model(adapt(config)).about["learned_from"]["round"] == 7


@pytest.mark.parametrize("backdrop", [0.0, 1.0])
def test_pairs_of_the_run_are_mixed_in(
    config: AdaptConfig, monkeypatch: pytest.MonkeyPatch, trained: Path, backdrop: float
) -> None:
    """Of a batch of eight photos and pairs a quarter are bright discs; all photos are faint."""
    batches = []
    learn = Learner.learn
    monkeypatch.setattr(Learner, "learn", lambda self, *given: batches.append(given[0]) or learn(self, *given))
    fake_agreements(monkeypatch, 0.1, 0.2)
    adapt(replace(config, steps=(1,), photos=None, backdrop=backdrop, augment="none"))
    bright = [image.max() > 160 for image in batches[0]]
    assert bright == [False] * 6 + [True] * 2
    assert count_known(batches[0], discs(128)[0])[0] == (0 if backdrop else 2)


def test_other_pairs_than_before_are_refused(
    config: AdaptConfig, monkeypatch: pytest.MonkeyPatch, trained: Path, tmp_path: Path
) -> None:
    fake_agreements(monkeypatch, 0.1, 0.2)
    shards = tmp_path / "masks"
    shutil.copytree(trained / "masks", shards)
    first = replace(config, steps=(1,), photos=None, shards=shards)
    about = load_model(adapt(first)).about
    assert about["pairs"]["pairs"] == json.loads((shards / "manifest.json").read_text())["pairs"]
    write_shards(shards, 126)
    with pytest.raises(UserError, match="was made with other pairs"):
        adapt(first)


def test_a_model_that_is_unsure_of_every_photo_is_a_failure(config: AdaptConfig) -> None:
    with pytest.raises(StageError, match="0 of 26 photos are left to train on"):
        adapt(replace(config, min_confidence=1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"synthetic_share": 1.5}, "synthetic_share is 1.5"),
        ({"synthetic_share": 1.0}, r"from 0\.125 to 0\.875, so that a batch of 8 has both pairs and photos"),
        ({"synthetic_share": 0.05}, "synthetic_share is 0.05"),
        ({"synthetic_share": 0.95}, "synthetic_share is 0.95"),
        ({"max_images": 15}, "max_images is 15, but has to be 16 or more"),
        ({"backdrop": -0.5}, "backdrop is -0.5"),
        ({"min_area": -0.1}, "min_area is -0.1"),
        ({"frozen_stride": 32}, "frozen_stride is 32, but the deepest map of resnet18 has stride 8"),
        ({"weights": Path("nowhere")}, "There is no saliency model nowhere"),
        ({"images": (Path("nowhere"),)}, "There is no folder nowhere"),
        ({"shards": Path("nowhere")}, "There is no folder nowhere"),
        ({"shards": None}, r"There is no .*masks"),
    ],
)
def test_wrong_settings_are_refused(config: AdaptConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        adapt(replace(config, **change))
