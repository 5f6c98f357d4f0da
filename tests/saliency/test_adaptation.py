import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from saliency_gan.config import AdaptConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.images import read_image
from saliency_gan.saliency import adaptation
from saliency_gan.saliency.adaptation import adapt
from saliency_gan.saliency.learner import Learner
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.validation import PhotoCheck
from tests.saliency.toys import write_faint_photos


@pytest.fixture(scope="module")
def world(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faint photos to adapt to and others, with masks, to measure on."""
    folder = tmp_path_factory.mktemp("world")
    write_faint_photos(folder / "many", 24, first=6000)
    write_faint_photos(folder / "measured", 6, first=5000)
    return folder


@pytest.fixture
def config(trained: Path, world: Path, tmp_path: Path) -> AdaptConfig:
    return AdaptConfig(
        run=tmp_path / "run",
        images=world / "many" / "images",
        weights=trained / "saliency",
        shards=trained / "masks",
        photos=world / "measured",
        device="cpu",
        precision="fp32",
        workers=0,
        rounds=2,
        steps=6,
        batch=6,
        lr=2e-3,
        ema=0.6,
        augment="flips",
        scales=(1.0,),
        min_confidence=0.2,
        min_agreement=0.5,
        held_out=4,
        checkpoint_every=2,
        log_every=3,
    )


def metrics(config: AdaptConfig) -> list[dict[str, float]]:
    return [json.loads(line) for line in (config.run / "saliency-adapted" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def adapted() -> Iterator[dict[str, Any]]:
    """Filled by the first test that adapts, so that others can compare with it."""
    yield {}


def finished(config: AdaptConfig, adapted: dict[str, Any]) -> dict[str, Any]:
    if not adapted:
        adapted["path"] = adapt(config)
        adapted["bytes"], adapted["metrics"] = adapted["path"].read_bytes(), metrics(config)
    return adapted


def test_faint_discs_are_learnt_without_masks(config: AdaptConfig, world: Path, adapted: dict[str, Any]) -> None:
    path = finished(config, adapted)["path"]
    start, end = (
        PhotoCheck(world / "measured", torch.device("cpu")).measure(load_model(weights))["photos_iou"]
        for weights in (config.weights, path)
    )
    assert start < 0.87
    assert end > start + 0.05
    about = load_model(path).about
    assert about["adapted_from"]["sha256"] == load_model(config.weights).sha256
    assert about["round"] >= 1
    rounds = [line for line in adapted["metrics"] if "agreement" in line]
    assert about["agreement"] == pytest.approx(max(line["agreement"] for line in rounds), abs=1e-5)
    assert rounds[1]["photos_iou"] > rounds[0]["photos_iou"]
    assert read_image(path.parent / "preview.png").shape[2] == 3


@pytest.mark.parametrize("step", [3, 9])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    config: AdaptConfig, monkeypatch: pytest.MonkeyPatch, adapted: dict[str, Any], step: int
) -> None:
    whole = finished(replace(config, run=config.run.parent / "whole"), adapted)
    learn, done = Learner.learn, 0

    def failing(self: Learner, *arguments: Any) -> torch.Tensor:
        nonlocal done
        if done == step:
            raise KeyboardInterrupt if step == 3 else SystemExit("killed")
        done += 1
        return learn(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        patch.setattr(Learner, "learn", failing)
        adapt(config)
    assert adapt(config).read_bytes() == whole["bytes"]
    assert metrics(config) == whole["metrics"]


def test_the_best_round_is_kept_and_none_follows_a_fall(config: AdaptConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    agreements = iter((0.5, 0.4, 0.9))
    monkeypatch.setattr(adaptation._Adaptation, "_measure", lambda *_: {"agreement": next(agreements)})
    kept = load_model(adapt(replace(config, steps=1)))
    assert (kept.about["round"], kept.about["agreement"]) == (0, 0.5)
    for name, weight in load_model(config.weights).named_parameters():
        torch.testing.assert_close(kept.get_parameter(name), weight)
    assert [line["agreement"] for line in metrics(config) if "agreement" in line] == [0.5, 0.4]


def test_more_rounds_can_be_asked_for_later(config: AdaptConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    agreements = iter((0.1, 0.2, 0.3))
    monkeypatch.setattr(adaptation._Adaptation, "_measure", lambda *_: {"agreement": next(agreements)})
    config = replace(config, steps=1, rounds=1, synthetic_share=0.0)
    assert load_model(adapt(config)).about["round"] == 1
    assert load_model(adapt(replace(config, rounds=2))).about["round"] == 2


def test_a_model_that_is_unsure_of_every_photo_is_a_failure(config: AdaptConfig) -> None:
    with pytest.raises(StageError, match="sure of 0 of 20 photos"):
        adapt(replace(config, min_confidence=1.0))


def test_other_photos_are_refused_when_a_run_goes_on(config: AdaptConfig, world: Path, tmp_path: Path) -> None:
    images = shutil.copytree(world / "many" / "images", tmp_path / "photos")
    config = replace(config, images=images, steps=1, rounds=1)
    adapt(config)
    (images / "faint-6000.png").unlink()
    with pytest.raises(UserError, match="made with other photos"):
        adapt(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"synthetic_share": 1.5}, "synthetic_share is 1.5"),
        ({"synthetic_share": 1.0}, "leaves no photo"),
        ({"min_area": -0.1}, "min_area is -0.1"),
        ({"grabcut_certainty": 0.4}, "grabcut_certainty is 0.4"),
        ({"scales": ()}, "scales is"),
        ({"resolution": 50}, "multiple of 32"),
        ({"weights": Path("nowhere")}, "There is no saliency model nowhere"),
        ({"weights": None}, "There is no saliency model"),
        ({"images": Path("nowhere")}, "There is no folder nowhere"),
        ({"shards": Path("nowhere")}, "There is no folder nowhere"),
    ],
)
def test_wrong_settings_are_refused(config: AdaptConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        adapt(replace(config, **change))
