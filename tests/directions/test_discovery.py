import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from saliency_gan.config import AnnotateConfig, DiscoverConfig
from saliency_gan.directions.annotation import annotate
from saliency_gan.directions.discovery import discover
from saliency_gan.directions.rca import measure_rca
from saliency_gan.directions.training import DiscoveryTrainer
from saliency_gan.errors import UserError
from saliency_gan.generators.zoo import load_generator, save_generator
from saliency_gan.images.reading import read_image
from saliency_gan.results.directions import load_directions
from tests.directions.worlds import tiny_biggan, tiny_sngan


@pytest.fixture
def config(tmp_path) -> DiscoverConfig:
    save_generator(tiny_biggan(), tmp_path / "tiny.safetensors")
    return DiscoverConfig(
        generator=str(tmp_path / "tiny.safetensors"), run=tmp_path / "run", device="cpu", K=6, batch=4, steps=11,
        lr_deformator=1e-2, reconstructor="lenet", checkpoint_every=4, log_every=3, rca_samples=24,
        background_samples=8, background_shifts=(3.0, 6.0), gallery_samples=2,
    )  # fmt: skip


def read_metrics(config: DiscoverConfig) -> list[dict[str, float]]:
    lines = (config.run / "discover" / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "steps_per_second"} for line in lines]


def results(config: DiscoverConfig) -> tuple[bytes, bytes, dict, list]:
    """What must not depend on where a run was broken off."""
    folder = config.run / "discover"
    description = json.loads((folder / "directions.json").read_text())
    tensors = safetensors.torch.load_file(folder / "directions.safetensors")
    del description["config"]  # it names the run folder
    return (
        tensors["A"].numpy().tobytes() + tensors["background"].numpy().tobytes(),
        (folder / "reconstructor.safetensors").read_bytes(),
        description,
        read_metrics(config),
    )


def test_writes_everything_that_the_next_stages_read(config):
    folder = discover(config)
    assert folder == config.run / "discover"
    directions = load_directions(folder)
    directions.check_generator(load_generator(config.generator))
    matrix = directions.matrix
    assert matrix.shape == (12, 6)
    assert torch.allclose(matrix.T @ matrix, torch.eye(6), atol=1e-5)
    background = directions.background
    expected = background.sign * matrix[:, background.index]
    assert torch.allclose(directions.background_vector, expected / expected.norm(), atol=1e-6)
    best = directions.scores[0]
    assert (best["index"], best["sign"], best["shift"]) == (background.index, background.sign, background.shift)
    assert (background.score, background.parts) == (best["score"], best["parts"])
    assert directions.rca["samples"] == 24
    assert 0 <= directions.rca["low"] <= directions.rca["accuracy"] <= directions.rca["high"] <= 1
    assert [line["step"] for line in read_metrics(config)] == [3, 6, 9]
    assert set(read_metrics(config)[0]) == {"step", "loss", "loss_direction", "loss_shift", "accuracy", "mae"}
    assert list((folder / "tensorboard").iterdir())
    assert read_image(folder / "ranking.png").shape[1] == 2 * (7 * 66 - 2) + 12
    assert len(list((folder / "gallery").glob("direction-*.png"))) == 6
    with safetensors.safe_open(folder / "reconstructor.safetensors", "pt") as file:
        assert json.loads(file.metadata()["reconstructor"]) == {"kind": "lenet", "K": 6, "channels": 3}
        assert file.get_tensor("direction_head.3.weight").shape[0] == 6


@pytest.mark.parametrize("killed_at", [6, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 10))])
def test_a_killed_run_ends_with_the_same_numbers(config, monkeypatch, killed_at):
    discover(config)
    expected = results(config)

    class Killed(BaseException):
        pass

    step = DiscoveryTrainer.train_step

    def step_or_die(self):
        if self.step == killed_at:
            raise Killed
        step(self)

    broken = replace(config, run=config.run.parent / "broken")
    monkeypatch.setattr(DiscoveryTrainer, "train_step", step_or_die)
    with pytest.raises(Killed):
        discover(broken)
    monkeypatch.setattr(DiscoveryTrainer, "train_step", step)
    discover(broken)
    assert results(broken) == expected


def test_ctrl_c_waits_for_the_step_and_loses_nothing(config, monkeypatch):
    discover(config)
    expected = results(config)
    step = DiscoveryTrainer.train_step

    def interrupted_step(self):
        if self.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    broken = replace(config, run=config.run.parent / "broken")
    monkeypatch.setattr(DiscoveryTrainer, "train_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        discover(broken)
    state = torch.load(broken.run / "discover" / "checkpoints" / "last.pt", weights_only=True)
    assert state["step"] == 7
    monkeypatch.setattr(DiscoveryTrainer, "train_step", step)
    discover(broken)
    assert results(broken) == expected


def test_a_run_can_be_made_longer(config):
    discover(replace(config, steps=5))
    discover(config)
    longer = results(config)
    straight = replace(config, run=config.run.parent / "straight")
    discover(straight)
    assert longer == results(straight)


def test_a_person_overrules_the_choice_without_training_again(config, monkeypatch):
    discover(config)
    before = load_directions(config.run / "discover")
    monkeypatch.setattr(DiscoveryTrainer, "train_step", None)
    discover(replace(config, direction=3, sign=-1, shift=5.0))
    after = load_directions(config.run / "discover")
    assert torch.equal(after.matrix, before.matrix)
    assert after.scores == before.scores and after.rca == before.rca
    assert (after.background.index, after.background.sign, after.background.shift) == (3, -1, 5.0)
    assert after.background.chosen_by == "user"
    assert torch.allclose(after.background_vector, -after.matrix[:, 3], atol=1e-6)


def test_what_only_measures_and_shows_leaves_the_file_of_directions_as_it_is(config):
    file = discover(config) / "directions.safetensors"
    before = file.read_bytes()
    for change in ({"gallery_samples": 1}, {"rca_samples": 8}, {"log_every": 2}):
        discover(replace(config, **change))
        assert file.read_bytes() == before
    for steps in (5, 6):  # the choice of h_bg is no part of the training
        discover(replace(config, method="optimise", optimise_steps=steps))
    assert file.read_bytes() != before


def test_another_rounding_keeps_the_directions_that_were_saved(config):
    folder = discover(config)
    saved = load_directions(folder)
    nudged = replace(saved, matrix=saved.matrix + 3e-7)
    nudged.save(folder)
    discover(replace(config, direction=3))
    assert torch.equal(load_directions(folder).matrix, nudged.matrix)
    replace(saved, matrix=saved.matrix + 1e-3).save(folder)
    discover(replace(config, direction=3))
    torch.testing.assert_close(load_directions(folder).matrix, saved.matrix, rtol=0, atol=1e-6)


def test_without_a_new_gallery_the_old_one_stays_only_with_its_directions(config):
    gallery = discover(replace(config, steps=5)) / "gallery"
    first = (gallery / "index.html").read_text()
    discover(replace(config, steps=5, gallery_samples=0, background_shifts=(1.0,)))
    assert gallery.is_dir() and (gallery / "index.html").read_text() != first  # its pictures, in the new order
    discover(replace(config, gallery_samples=0))
    assert not gallery.exists()


@pytest.mark.parametrize("direction", [3, "background"])
def test_a_direction_that_is_not_trained_yet_cannot_be_chosen(config, direction):
    with pytest.raises(UserError, match=f"--direction {direction} names a direction that is not trained yet"):
        discover(replace(config, direction=direction))
    assert not (config.run / "discover").exists()


def test_a_person_names_directions_and_chooses_by_name(config, capsys):
    discover(replace(config, steps=5))
    annotate(AnnotateConfig(run=config.run, direction=3, name="background"))
    named = replace(config, steps=5, direction="background", sign=-1, shift=5.0)
    discover(named)
    after = load_directions(config.run / "discover")
    assert (after.background.index, after.background.chosen_by) == (3, "user")
    assert after.config["direction"] == 3 and after.names == {3: "background"}
    assert "background (direction 3)" in (config.run / "discover" / "gallery" / "index.html").read_text()
    assert "check the names" not in capsys.readouterr().out
    discover(config)
    assert load_directions(config.run / "discover").names == {3: "background"}
    assert "not those that were named" in capsys.readouterr().out
    with pytest.raises(UserError, match="did you mean 'background'"):
        discover(replace(config, direction="backdrop"))


def test_names_outlive_a_kill_between_the_two_files(config, capsys):
    discover(replace(config, steps=1))
    annotate(AnnotateConfig(run=config.run, direction=3, name="background"))
    path = config.run / "discover" / "directions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"directions_sha256": "0" * 64}))
    discover(replace(config, steps=1))
    assert load_directions(path.parent).names == {3: "background"}
    assert "check the names" in capsys.readouterr().out


def test_names_in_a_damaged_file_are_not_lost(config, capsys):
    discover(replace(config, steps=1))
    path = config.run / "discover" / "directions.json"
    damaged = json.dumps(json.loads(path.read_text()) | {"names": {"1": "size", "2": "size"}})
    path.write_text(damaged)
    discover(replace(config, steps=1))
    assert load_directions(path.parent).names == {}
    assert (path.parent / "directions.damaged-1.json").read_text() == damaged
    assert "two alike" in capsys.readouterr().out


def test_optimised_direction_needs_no_training(config):
    folder = discover(replace(config, steps=0, method="optimise", optimise_steps=3, gallery_samples=0, rca_samples=0))
    directions = load_directions(folder)
    assert directions.background.index is None and directions.background.method == "optimise"
    assert directions.background_vector.norm().item() == pytest.approx(1, abs=1e-5)
    assert directions.rca == {}
    assert not (folder / "gallery").exists()


@pytest.mark.parametrize("kind", ["unit", "linear", "coordinate", "random"])
def test_every_kind_of_deformator_runs_through(config, kind):
    folder = discover(replace(config, deformator=kind, steps=2, gallery_samples=0, classes=("1", "2")))
    assert np.isfinite(load_directions(folder).matrix.numpy()).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"K": 13}, "K = 13 orthonormal directions do not fit into 12"),
        ({"direction": 6}, "--direction 6 does not exist among K = 6"),
        ({"direction": -1}, "--direction -1"),
        ({"min_shift": 7.0}, "from 0 to --max_shift 6"),
        ({"max_shift": 0.0, "min_shift": 0.0}, "--max_shift is 0.0, but has to be above 0"),
        ({"batch": 1}, "--batch is 1"),
        ({"rca_every": 2, "rca_samples": 0}, "--rca_samples is 0, but has to be 1 or more with --rca_every"),
        ({"rca_every": -1}, "--rca_every is -1"),
        ({"background_shifts": ()}, "positive"),
        ({"background_shifts": (4.0, -4.0)}, "positive"),
        ({"theta": 1.5}, "--theta is 1.5"),
        ({"background_samples": 0}, "--background_samples is 0"),
        ({"lr_deformator": -1.0}, "--lr_deformator is -1"),
        ({"classes": ("nothing",)}, "no class 'nothing'"),
        ({"generator": "biggan-of-mars"}, "did you mean"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(config, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        discover(replace(config, **settings))
    assert not (config.run / "discover" / "checkpoints").exists()


@pytest.fixture
def finished(config) -> DiscoverConfig:
    """A short run that others start from."""
    discover(replace(config, steps=8, gallery_samples=0))
    return config


def start_of(config: DiscoverConfig, **settings) -> DiscoverConfig:
    asked = {"start": config.run / "discover", "run": config.run.parent / "next", "gallery_samples": 0, **settings}
    return replace(config, **asked)


@pytest.mark.parametrize("kind", ["orthonormal", "unit", "linear"])
def test_a_run_starts_from_another_one(config, kind):
    before = load_directions(discover(replace(config, steps=8, gallery_samples=0, deformator=kind)))
    after = load_directions(discover(start_of(config, steps=0, deformator=kind)))
    assert torch.allclose(after.matrix, before.matrix, atol=1e-6)
    assert after.rca == pytest.approx(before.rca, abs=1e-6)
    again = load_directions(discover(start_of(config, steps=3, deformator=kind, run=config.run.parent / "more")))
    assert 1e-3 < (again.matrix - before.matrix).abs().max() < 0.1  # 3 steps of Adam with a rate of 1e-2


def test_a_start_that_was_interrupted_continues_from_its_checkpoint(finished, monkeypatch):
    expected = load_directions(discover(start_of(finished, steps=6))).matrix
    step = DiscoveryTrainer.train_step

    def interrupted_step(self):
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    broken = start_of(finished, steps=6, run=finished.run.parent / "broken")
    monkeypatch.setattr(DiscoveryTrainer, "train_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        discover(broken)
    monkeypatch.setattr(DiscoveryTrainer, "train_step", step)
    assert torch.equal(load_directions(discover(broken)).matrix, expected)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"K": 5}, "holds an A of 12 x 6 numbers, but tiny and --K 5 need 12 x 5"),
        ({"deformator": "mlp"}, "--start is .* has to be left out"),
        ({"deformator": "random"}, "--start is .* has to be left out"),
        ({"start": Path("nothing")}, "nothing is neither the discover folder"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(finished, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        discover(start_of(finished, **settings))


def test_columns_of_another_kind_are_no_start(config):
    discover(replace(config, steps=8, gallery_samples=0, deformator="linear"))
    for kind in ("unit", "orthonormal"):
        with pytest.raises(UserError, match=f"in --start are not {kind}"):
            discover(start_of(config, deformator=kind))


def test_a_reconstructor_of_another_kind_begins_at_random(finished, capsys):
    before = load_directions(finished.run / "discover")
    after = load_directions(discover(start_of(finished, steps=0, reconstructor="resnet18", batch=8)))
    assert "has no resnet18 R of this K, so R begins at random" in capsys.readouterr().out
    assert torch.allclose(after.matrix, before.matrix, atol=1e-6)


def test_a_damaged_reconstructor_is_refused(finished):
    path = finished.run / "discover" / "reconstructor.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"reconstructor\.safetensors is damaged or no R"):
        discover(start_of(finished))


def test_a_run_begun_with_other_settings_is_refused(config):
    discover(replace(config, steps=1))
    with pytest.raises(UserError, match="was begun with K = 6, but K = 5"):
        discover(replace(config, K=5))


def test_a_run_begun_on_another_generator_is_refused(config, tmp_path):
    discover(replace(config, steps=1))
    generator = tiny_biggan()
    generator.last.bias.data += 0.1
    save_generator(generator, tmp_path / "tiny.safetensors")
    with pytest.raises(UserError, match="other weights"):
        discover(replace(config, steps=2))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"cos\nsystem\n(S'true'\ntR."])
def test_damaged_checkpoint_is_refused(config, content):
    folder = discover(replace(config, steps=1))
    (folder / "checkpoints" / "last.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt"):
        discover(config)


@pytest.mark.parametrize("killed_at", [None, 7])
def test_rca_along_the_way_is_logged_and_disturbs_nothing(config, monkeypatch, killed_at):
    discover(config)
    plain = results(config)
    watched = replace(config, run=config.run.parent / "watched", rca_every=5)
    step = DiscoveryTrainer.train_step

    def step_or_die(self):
        if self.step == killed_at:
            raise RuntimeError("killed")
        step(self)

    if killed_at:
        monkeypatch.setattr(DiscoveryTrainer, "train_step", step_or_die)
        with pytest.raises(RuntimeError, match="killed"):
            discover(watched)
        monkeypatch.setattr(DiscoveryTrainer, "train_step", step)
    discover(watched)
    *files, metrics = results(watched)
    assert files == list(plain[:3])
    assert [line for line in metrics if "rca" not in line] == plain[3]
    logged = {line["step"]: line["rca"] for line in metrics if "rca" in line}
    assert list(logged) == [5, 10]
    trainer = DiscoveryTrainer(config, load_generator(config.generator))
    for _ in range(5):
        trainer.train_step()
    parts = (trainer.sampler, trainer.deformator, trainer.reconstructor, trainer.fabric)
    assert logged[5] == pytest.approx(measure_rca(*parts, 24, 4, config.seed, step=5)["accuracy"], abs=1e-6)


@pytest.mark.parametrize("reconstructor", ["lenet", "resnet18"])
def test_grey_images_without_classes_go_through(config, tmp_path, reconstructor):
    save_generator(tiny_sngan(), tmp_path / "digits.safetensors")
    settings = replace(config, generator=str(tmp_path / "digits.safetensors"), reconstructor=reconstructor, steps=3)
    folder = discover(settings)
    directions = load_directions(folder)
    assert directions.matrix.shape == (12, 6) and directions.rca["samples"] == 24
    first = {"lenet": "trunk.0.weight", "resnet18": "trunk.conv1.weight"}[reconstructor]
    with safetensors.safe_open(folder / "reconstructor.safetensors", "pt") as file:
        assert json.loads(file.metadata()["reconstructor"]) == {"kind": reconstructor, "K": 6, "channels": 1}
        assert file.get_tensor(first).shape[1] == 2, "the two grey images are stacked"
    picture = read_image(folder / "gallery" / "direction-000.png")
    assert picture.shape == (2 * 18 - 2, 9 * 18 - 2, 3)
    assert (picture == picture[:, :, :1]).all(), "grey is repeated"


def test_the_bundled_a_and_r_reach_the_rca_that_is_recorded(tmp_path):
    config = DiscoverConfig(start=Path("biggan-caltech101-64"), run=tmp_path, device="cpu", seed=1)
    start = config.inputs()["start"].folder
    trainer = DiscoveryTrainer(config, load_generator(config.choice.name))
    trainer.start_from(start)
    networks = (trainer.deformator, trainer.reconstructor)
    measured = measure_rca(trainer.sampler, *networks, trainer.fabric, 512, 64, seed=1)["accuracy"]
    recorded = load_directions(start).rca["accuracy"]
    assert measured == pytest.approx(recorded, abs=3 * (recorded * (1 - recorded) / 512) ** 0.5)
