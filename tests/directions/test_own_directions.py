"""Directions that a generator itself names, on their way through the stages."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saliency_gan.config import (
    AnnotateConfig,
    DiscoverConfig,
    EigenConfig,
    EvaluateConfig,
    MasksConfig,
    TrainSaliencyConfig,
)
from saliency_gan.directions import eigen as eigen_module
from saliency_gan.directions.annotation import annotate
from saliency_gan.directions.discovery import discover
from saliency_gan.directions.eigen import eigen
from saliency_gan.errors import UserError
from saliency_gan.evaluation.evaluate import evaluate
from saliency_gan.generators.eigengan import EigenGAN
from saliency_gan.generators.zoo import save_generator
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.pages.page import Section
from saliency_gan.reporting.stages import discover_section
from saliency_gan.results.directions import load_directions
from saliency_gan.training.train_saliency import train_saliency
from tests.directions.finished import finished_run
from tests.generators.conftest import make_eigengan


@pytest.fixture
def config(tmp_path):
    save_generator(make_eigengan(), tmp_path / "eigen.safetensors", torch.float32)
    return DiscoverConfig(
        generator=str(tmp_path / "eigen.safetensors"), run=tmp_path / "run", device="cpu", K=2, steps=2, batch=4,
        reconstructor="lenet", rca_samples=8, background_samples=4, background_shifts=(3.0,), gallery_samples=1,
        precision="fp32",
    )  # fmt: skip


def test_a_new_run_takes_an_own_direction_by_its_name(config):
    found = load_directions(discover(replace(config, direction="L1D2", sign=-1, shift=2.0)))
    assert (found.background.index, found.background.chosen_by) == (2 + 1, "user")
    expected = -make_eigengan().own_directions["L1D2"]
    torch.testing.assert_close(found.background_vector, expected)
    with pytest.raises(UserError, match="No direction is called 'L9D9'"):
        discover(replace(config, direction="L9D9"))
    path = config.run / "discover" / "directions.json"  # as a kill between the two files leaves it
    path.write_text(json.dumps(json.loads(path.read_text()) | {"directions_sha256": "0" * 64}))
    discover(replace(config, direction="L1D2", sign=-1, shift=2.0))
    assert load_directions(path.parent).background == found.background
    section = Section("Stage 1", "discover")
    discover_section(config.run, section)
    assert "h_bg is direction 3 (L1D2), sign -1" in section.sentences[0]


def test_the_best_of_both_sources_are_told(config, capsys):
    found = load_directions(discover(config))
    told = re.search(
        r"best discovered: direction (\d), score ([\d.]+); best of the generator's own: direction (\d) \((L\dD\d)\),"
        r" score ([\d.]+)",
        capsys.readouterr().out,
    )
    assert told is not None
    finely_scored = {entry["index"]: entry["score"] for entry in found.scores}
    for columns, index, score in ((range(2), told[1], told[2]), (range(2, 8), told[3], told[5])):
        best = max(columns, key=lambda column: finely_scored[column])
        assert (int(index), float(score)) == (best, pytest.approx(finely_scored[best], abs=5e-4))
    assert found.names[int(told[3])] == told[4]
    discover(replace(config, K=0, run=config.run.parent / "own"))
    assert "best discovered" not in capsys.readouterr().out


def test_names_of_own_directions_do_not_get_in_the_way_of_a_person_s(config, capsys):
    discover(config)
    annotate(AnnotateConfig(run=config.run, direction="L1D1", remove=True))
    annotate(AnnotateConfig(run=config.run, direction=6, name="ground"))
    annotate(AnnotateConfig(run=config.run, direction="L2D1", name="L1D1"))
    discover(config)
    own = {2: "L1D1", 3: "L1D2", 4: "L1D3", 7: "L2D3"}
    found = load_directions(config.run / "discover")
    assert found.names == own | {5: "L2D1: L1D1", 6: "L2D2: ground"}
    assert [found.index_of(name) for name in ("L1D1", "L2D1", "L2D2: ground")] == [2, 5, 6]
    discover(replace(config, steps=3))
    assert "check the names" not in capsys.readouterr().out, "own directions are not trained"
    annotate(AnnotateConfig(run=config.run, direction=0, name="tilt"))
    discover(replace(config, steps=4))
    assert "check the names" in capsys.readouterr().out


class BorderWorld(EigenGAN):
    """L1D1 makes the border brighter by .2 a unit, in [-1, 1], L1D2 the whole picture; the rest does nothing."""

    def forward(self, latents, classes):
        images = torch.zeros(len(latents), 3, 16, 16)
        border = torch.ones(16, 16)
        border[2:-2, 2:-2] = 0
        first, second = (latents[:, self.column(0, index)][:, None, None, None] for index in (0, 1))
        return images + 0.2 * first * border + 0.1 * second


def test_the_page_says_what_a_hand_built_generator_does(config, monkeypatch):
    world = BorderWorld(make_eigengan().architecture, "border")
    for subspace in world.layers():
        subspace.importance.data = torch.tensor([6.0, 3.0, 1.0])
    world.sha256 = "b" * 64
    monkeypatch.setattr(eigen_module, "load_chosen", lambda _: world.freeze())
    page = eigen(
        EigenConfig(run=config.run, device="cpu", samples=1, frames=3, measured=5, sigma=0.1, precision="fp32")
    ).read_text()
    found = json.loads((config.run / "eigen" / "eigen.json").read_text())
    first, second = found["dimensions"]["L1D1"], found["dimensions"]["L1D2"]
    assert (first["share_percent"], second["share_percent"]) == (pytest.approx(60), pytest.approx(30))
    share = 1 - 12**2 / 16**2
    expected = {"brightness": 0.1 * share, "colour": 0, "border": 0.1, "centre": 0, "pixels": 0.1 * share}
    for kind, value in expected.items():
        assert first["effects"][kind] == {"mean": pytest.approx(value, abs=1e-6), "spread": pytest.approx(0, abs=1e-6)}
    assert {kind: effect["mean"] for kind, effect in second["effects"].items()} == pytest.approx(
        {"brightness": 0.05, "colour": 0, "border": 0.05, "centre": 0.05, "edges": 0, "pixels": 0.05}, abs=1e-6
    )
    assert (first["main_effect"], second["main_effect"]) == ("border", "brightness")
    assert [warning[:8] for warning in found["warnings"]] == ["Layer L2"]
    assert found["warnings"][0] in page


def test_names_of_another_generator_s_directions_are_left_out(config, tmp_path):
    run = finished_run(tmp_path / "other")
    annotate(AnnotateConfig(run=run, direction=5, name="a name of theirs"))
    page = eigen(
        EigenConfig(generator=config.generator, run=run, device="cpu", samples=1, frames=2, measured=2)
    ).read_text()
    assert "L2D3" in page and "a name of theirs" not in page


def test_the_page_loads_nothing_from_elsewhere(config):
    page = eigen(
        EigenConfig(generator=config.generator, run=config.run, device="cpu", samples=1, frames=2, measured=2)
    ).read_text()
    sources = re.findall(r"(?:src|href)=[\"']?([^\"' >]+)", page)
    assert len([source for source in sources if source.startswith("data:image/")]) == 6
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert "url(" not in page and "<script" not in page


@pytest.mark.slow
def test_masks_and_a_saliency_model_follow_from_an_own_direction(config, tmp_path):
    save_generator(make_eigengan(channels=(12, 8, 8, 8)), tmp_path / "eigen.safetensors", torch.float32)
    run = config.run
    discover(replace(config, K=0, gallery_samples=0, direction="L1D1"))
    synthesise(
        MasksConfig(
            generator=config.generator, run=run, device="cpu", pairs=16, batch=8, theta="otsu", opening=0,
            min_area=0.0, max_area=1.0, max_border=1.0, precision="fp32",
        )
    )  # fmt: skip
    masks = MasksConfig(generator=config.generator, run=run, device="cpu")
    training = TrainSaliencyConfig(
        run=run, device="cpu", resolution=32, decoder_channels=(16, 12, 8, 8), steps=2, batch=4, validation_pairs=4,
        checkpoint_every=2, workers=0, precision="fp32",
    )  # fmt: skip
    train_saliency(training, masks)
    samples = Path(__file__).parents[2] / "data" / "samples"
    evaluate(
        EvaluateConfig(
            run=run, device="cpu", images=samples / "images", masks=samples / "masks", baselines=False, workers=0
        )
    )
    (path,) = (run / "evaluation").glob("*.json")
    measured = json.loads(path.read_text())["model"]
    assert measured["n"] == 43 and 0 <= measured["iou"] <= 1
