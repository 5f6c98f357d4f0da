"""One rule for all inputs: what is named, else the run's, else what is bundled."""

import json
from pathlib import Path

import pytest

from saliency_gan.config import (
    AdaptConfig,
    AppConfig,
    DiscoverConfig,
    DissectConfig,
    EvaluateConfig,
    ExportConfig,
    MasksConfig,
    PredictConfig,
    TrainSaliencyConfig,
    TrainStudentConfig,
    WalkConfig,
)
from saliency_gan.errors import UserError
from saliency_gan.storage.bundled import bundled_folder
from saliency_gan.storage.run_layout import RunLayout

NAME = "biggan-caltech101-64"


def put(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def put_directions(folder: Path, generator: str, **config: object) -> None:
    description = {"generator": {"name": generator, "sha256": "0"}, "config": {"generator": generator, **config}}
    put(folder / "directions.json", json.dumps(description))


def put_models(run: Path, *stages: str) -> None:
    for stage in stages:
        put(run / stage / "model.safetensors")


def test_a_named_generator_comes_first(tmp_path: Path) -> None:
    put_directions(tmp_path / "discover", "biggan-deep-128", truncation=0.4, ablate_units=["block0:1"])
    choice = MasksConfig(run=tmp_path, generator=NAME, weights=Path("w")).choice
    assert (choice.name, choice.weights, choice.truncation, choice.ablate_units) == (NAME, Path("w"), 1.0, ())


def test_then_the_one_of_the_runs_directions_and_how_it_drew(tmp_path: Path) -> None:
    settings = {"truncation": 0.4, "ablate_units": ["block0:1"], "weights": "w"}
    put_directions(tmp_path / "discover", "biggan-deep-128", **settings)
    put(tmp_path / "generator" / "generator.safetensors")
    for config in (MasksConfig(run=tmp_path), DissectConfig(run=tmp_path), WalkConfig(run=tmp_path)):
        resolved = config.resolved()
        assert (resolved.generator, resolved.weights) == ("biggan-deep-128", Path("w"))
        assert (resolved.truncation, resolved.ablate_units) == (0.4, ("block0:1",))
    named = MasksConfig(run=tmp_path, generator="biggan-deep-128", truncation=1.0)
    assert (named.choice.truncation, named.choice.ablate_units) == (1.0, ("block0:1",))


def test_then_the_one_that_the_run_trained_then_a_bundled_one(tmp_path: Path) -> None:
    assert DiscoverConfig(run=tmp_path).choice.name == NAME
    put(tmp_path / "generator" / "generator.safetensors")
    for config in (DiscoverConfig(run=tmp_path), MasksConfig(run=tmp_path), AppConfig(run=tmp_path)):
        assert config.choice.name == str(tmp_path / "generator")
        assert str(config.choice.inputs["generator"]) == f"{tmp_path / 'generator'} (the run's)"


def test_directions_that_are_named_bring_their_generator(tmp_path: Path) -> None:
    put_directions(tmp_path / "other", "sngan-anime")
    config = MasksConfig(run=tmp_path / "run", directions=tmp_path / "other")
    assert config.choice.name == "sngan-anime"
    assert config.inputs()["directions"].path == tmp_path / "other"


def test_bundled_directions_have_a_name(tmp_path: Path) -> None:
    other = "biggan-caltech101-64-projected"
    for config in (MasksConfig(run=tmp_path, directions=Path(other)), DiscoverConfig(run=tmp_path, start=Path(other))):
        assert config.choice.name == other
        found = config.inputs()["directions" if isinstance(config, MasksConfig) else "start"]
        assert (str(found), found.path) == (f"{other} (bundled)", bundled_folder(other))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"generator": {"name": "x"}, "config": {"truncation": "much"}}'])
def test_damaged_directions_name_no_generator(content: str, tmp_path: Path) -> None:
    put(tmp_path / "discover" / "directions.json", content)
    with pytest.raises(UserError, match="does not say which generator its directions belong to"):
        DissectConfig(run=tmp_path).choice  # noqa: B018 - another generator would be dissected
    assert DiscoverConfig(run=tmp_path, generator=NAME).choice.name == NAME  # which writes them again


def test_a_generator_folder_of_one_word_is_a_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert MasksConfig(run=tmp_path, generator="mine").inputs()["generator"].path == Path("mine")
    assert MasksConfig(run=tmp_path, generator=NAME).inputs()["generator"].path is None


def test_bundled_directions_and_dissection_stand_in(tmp_path: Path) -> None:
    masks = MasksConfig(run=tmp_path, rule="consensus")
    app = AppConfig(run=tmp_path)
    for inputs in (masks.inputs(), app.inputs()):
        assert inputs["directions"].path == inputs["dissection"].path == bundled_folder(NAME)
        assert str(inputs["directions"]) == f"{NAME} (bundled), since {tmp_path} has none"
    for stage in ("discover", "dissect"):
        (tmp_path / stage).mkdir()
    for inputs in (masks.inputs(), app.inputs()):
        assert (inputs["directions"].path, inputs["dissection"].path) == (tmp_path / "discover", tmp_path / "dissect")


@pytest.mark.parametrize("generator", ["biggan-deep-512", f"runs/{NAME}", f"../weights/{NAME}", "saliency", ""])
def test_elsewhere_only_the_run_counts(generator: str, tmp_path: Path) -> None:
    found = RunLayout(tmp_path).directions(None, generator)
    assert (found.path, found.origin, found.is_missing) == (tmp_path / "discover", "missing", True)


def test_every_verb_takes_the_same_model_of_a_run(tmp_path: Path) -> None:
    for stage in ("saliency", "student", "saliency-adapted"):
        put_models(tmp_path, stage)
        found = [
            PredictConfig(run=tmp_path).model,
            ExportConfig(run=tmp_path).model,
            AppConfig(run=tmp_path).model,
            next(iter(EvaluateConfig(run=tmp_path).models.values())),
            DissectConfig(run=tmp_path).inputs()["saliency model"],
        ]
        assert {one.path for one in found} == {tmp_path / stage}
        assert {str(one) for one in found} == {f"{tmp_path / stage} (the run's)"}
    assert list(EvaluateConfig(run=tmp_path).models) == ["adapted", "student", "GAN pairs alone"]
    assert AdaptConfig(run=tmp_path).inputs()["model"].path == tmp_path / "student", "what it would write is no input"


def test_without_a_run_or_a_model_of_it_the_bundled_one_is_taken(tmp_path: Path) -> None:
    put_models(Path("runs/demo"), "saliency")
    for config in (PredictConfig(), ExportConfig(), AppConfig()):
        assert config.model.path is None and str(config.model) == "bundled"
    assert list(EvaluateConfig().models) == ["bundled"]
    assert str(PredictConfig(run=tmp_path).model) == f"bundled, since {tmp_path} has none"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


def test_a_named_model_comes_first_and_bundled_is_a_name(tmp_path: Path) -> None:
    put_models(tmp_path, "student")
    assert PredictConfig(run=tmp_path, weights=Path("mine")).model.path == Path("mine")
    for config in (PredictConfig, ExportConfig, AppConfig):
        assert config(run=tmp_path, weights=Path("bundled")).model.origin == "bundled"
    assert PredictConfig(run=tmp_path, weights=Path("bundled"), runtime="onnx").model.path is None
    assert PredictConfig(run=tmp_path, runtime="onnx").model.is_missing
    assert PredictConfig(run=tmp_path / "other", runtime="onnx").model.origin == "bundled"
    target = ExportConfig(run=tmp_path).target
    target.parent.mkdir()
    target.touch()
    assert PredictConfig(run=tmp_path, runtime="onnx").model.path == target


def test_a_students_teacher_is_never_taken_from_the_package_unasked(tmp_path: Path) -> None:
    config = TrainStudentConfig(run=tmp_path)
    assert config.inputs()["teacher"].is_missing and config.reads()[-1] == tmp_path / "saliency"
    put_models(tmp_path, "student", "saliency")
    assert config.inputs()["teacher"].path == tmp_path / "saliency"
    assert TrainStudentConfig(teacher=Path("bundled")).inputs()["teacher"].path is None


def test_pairs_are_named_or_the_runs(tmp_path: Path) -> None:
    assert TrainSaliencyConfig(run=tmp_path).inputs()["pairs"].is_missing
    (tmp_path / "masks").mkdir()
    assert TrainSaliencyConfig(run=tmp_path).inputs()["pairs"].path == tmp_path / "masks"
    address = TrainSaliencyConfig(run=tmp_path, shards="https://host/set").inputs()["pairs"]
    assert (address.name, address.path, address.is_missing) == ("https://host/set", None, False)
    assert "pairs" not in AdaptConfig(run=tmp_path).inputs(), "no share of a batch is synthetic"
    assert AdaptConfig(run=tmp_path, synthetic_share=0.2).inputs()["pairs"].path == tmp_path / "masks"


def test_without_a_run_the_current_folder_is_none() -> None:
    put_directions(Path("discover"), "sngan-anime")
    put_models(Path(), "student")
    app = AppConfig()
    assert app.choice.name == NAME and app.directions.origin == "bundled" and app.model.origin == "bundled"
