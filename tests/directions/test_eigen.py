import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from saliency_gan.config import AnnotateConfig, DiscoverConfig, EigenConfig, MasksConfig
from saliency_gan.directions import discovery
from saliency_gan.directions.annotation import annotate
from saliency_gan.directions.discovery import discover
from saliency_gan.directions.effects import measure_effects, selectivities
from saliency_gan.directions.eigen import eigen, traversal
from saliency_gan.errors import UserError
from saliency_gan.generators.zoo import load_generator, save_generator
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.results.directions import load_directions
from saliency_gan.runs.random_streams import random_stream
from tests.directions.worlds import DiscWorld, tiny_biggan
from tests.generators.conftest import make_eigengan


@pytest.fixture
def weights(tmp_path):
    save_generator(make_eigengan(), tmp_path / "eigen.safetensors", torch.float32)
    return tmp_path / "eigen.safetensors"


@pytest.fixture
def config(weights, tmp_path):
    return EigenConfig(
        generator=str(weights), run=tmp_path / "run", device="cpu", samples=2, frames=3, measured=8, precision="fp32"
    )


@pytest.fixture
def discover_config(weights, tmp_path):
    return DiscoverConfig(
        generator=str(weights), run=tmp_path / "run", device="cpu", K=0, background_samples=4,
        background_shifts=(3.0,), gallery_samples=1, precision="fp32",
    )  # fmt: skip


def test_shares_effects_and_pictures(config, weights):
    page = eigen(config).read_text()
    found = json.loads((config.run / "eigen" / "eigen.json").read_text())
    generator = load_generator(str(weights))
    assert [one["share_percent"] for one in found["dimensions"].values()] == pytest.approx([50, 100 / 3, 100 / 6] * 2)
    assert found["generator"]["sha256"] == generator.sha256
    assert all(layer["orthogonality_error"] < 1e-6 for layer in found["layers"])
    for name in found["dimensions"]:
        assert (config.run / "eigen" / "dimensions" / f"{name}.png").is_file()
        assert name in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "") and 'src="data:' in page
    eigen(replace(config, frames=2))  # other settings may follow


def test_effects_of_a_dimension_by_direct_calls(config, weights):
    eigen(config)
    found = json.loads((config.run / "eigen" / "eigen.json").read_text())["dimensions"]["L1D2"]
    generator = load_generator(str(weights))
    random = random_stream(config.seed, 7, 0)
    latents = 0.5 * generator.sample_latents(8, random)
    step = torch.zeros(16)
    step[found["column"]] = 1
    with torch.no_grad():
        sides = [((generator(latents + sign * step, [0] * 8) + 1) / 2).double().numpy() for sign in (-1, 1)]
    changes = (sides[1] - sides[0]).mean(axis=(1, 2, 3)) / 2
    assert found["effects"]["brightness"]["mean"] == pytest.approx(changes.mean(), rel=1e-3, abs=1e-7)
    assert found["effects"]["brightness"]["spread"] == pytest.approx(changes.std(), rel=1e-3, abs=1e-7)


def test_a_brighter_border_is_measured_as_that():
    minus = torch.full((2, 3, 16, 16), -1.0)
    plus = minus.clone()
    plus[:, :, :2], plus[:, :, -2:], plus[:, :, :, :2], plus[:, :, :, -2:] = 0.6, 0.6, 0.6, 0.6
    found = {name: value.tolist() for name, value in measure_effects(minus, plus, distance=2.0).items()}
    assert found["border"] == pytest.approx([0.4, 0.4])
    assert found["centre"] == [0, 0]
    assert found["colour"] == pytest.approx([0, 0], abs=1e-7)
    assert found["brightness"] == pytest.approx([0.4 * (1 - 144 / 256)] * 2)
    assert found["pixels"] == pytest.approx(found["brightness"])


def test_selectivity_is_the_main_effect_s_share_of_all():
    zero = dict.fromkeys(("brightness", "colour", "border", "centre", "edges", "pixels"), 0.0)
    effects = {"L1D1": zero | {"border": -0.4}, "L1D2": zero | {"border": 0.2, "edges": 0.1}, "L1D3": zero}
    assert selectivities(effects) == {
        "L1D1": ("border", 1.0),
        "L1D2": ("edges", pytest.approx(1 / 1.5)),
        "L1D3": ("brightness", 0.0),
    }


def test_a_traversal_changes_its_own_column_only():
    latents = torch.randn(3, 16, generator=random_stream(0))
    everywhere = traversal(latents, 5, torch.tensor([-4.5, 0.0, 4.5]))
    assert everywhere[:, :, 5].tolist() == [[-4.5] * 3, [0.0] * 3, [4.5] * 3]
    others = [column for column in range(16) if column != 5]
    assert torch.equal(everywhere[:, :, others], latents[:, others].expand(3, -1, -1))


def test_other_generators_are_refused(config, tmp_path):
    save_generator(tiny_biggan(), tmp_path / "tiny.safetensors")
    with pytest.raises(UserError, match="tiny is no EigenGAN"):
        eigen(replace(config, generator=str(tmp_path / "tiny.safetensors")))
    with pytest.raises(UserError, match="--reach is"):
        eigen(replace(config, reach=0.0))


def test_own_directions_alone_need_no_training(discover_config, config):
    folder = discover(discover_config)
    found = load_directions(folder)
    generator = load_generator(discover_config.generator)
    np.testing.assert_array_equal(found.matrix, torch.stack(list(generator.own_directions.values()), dim=1))
    assert found.names == dict(enumerate(generator.own_directions)) and found.rca == {}
    assert found.background.index is not None and not (folder / "reconstructor.safetensors").exists()
    annotate(AnnotateConfig(run=discover_config.run, direction="L2D1", name="<b>ground</b>"))
    assert load_directions(folder).index_of("L2D1") == 3
    page = eigen(config).read_text()
    assert "&lt;b&gt;ground&lt;/b&gt;" in page and "<b>ground" not in page
    chosen = load_directions(discover(replace(discover_config, direction="L1D3", sign=-1, shift=2.0)))
    assert chosen.background.index == 2 and chosen.names[3] == "L2D1: <b>ground</b>"
    torch.testing.assert_close(chosen.background_vector, -generator.own_directions["L1D3"])


def test_own_directions_stand_behind_the_discovered_ones(discover_config):
    learning = replace(discover_config, K=2, steps=2, batch=4, reconstructor="lenet", rca_samples=8)
    found = load_directions(discover(learning))
    assert found.matrix.shape == (16, 8) and found.rca
    assert found.names == {2 + number: f"L{1 + number // 3}D{1 + number % 3}" for number in range(6)}
    torch.testing.assert_close(found.matrix[:, :2].T @ found.matrix[:, :2], torch.eye(2), rtol=0, atol=1e-5)


def test_a_generator_s_own_background_direction_wins(discover_config, monkeypatch):
    world = DiscWorld().freeze()
    own = {"clear": torch.eye(8)[DiscWorld.CLEAR], "nothing": torch.eye(8)[DiscWorld.NOTHING]}
    monkeypatch.setattr(DiscWorld, "own_directions", own)
    monkeypatch.setattr(discovery, "load_chosen", lambda _: world)
    found = load_directions(discover(replace(discover_config, background_samples=16, background_shifts=(6.0,))))
    assert found.names[found.background.index] == "clear"
    assert (found.background.sign, found.background.polarity) == (1, "bright")


def test_no_directions_at_all_are_refused(discover_config, tmp_path):
    save_generator(tiny_biggan(), tmp_path / "tiny.safetensors")
    with pytest.raises(UserError, match="--K 0 leaves only"):
        discover(replace(discover_config, generator=str(tmp_path / "tiny.safetensors")))


def test_masks_follow_from_an_own_direction(discover_config):
    discover(discover_config)
    folder = synthesise(
        MasksConfig(
            generator=discover_config.generator, run=discover_config.run, device="cpu", pairs=5, batch=8, theta="otsu",
            min_area=0.0, max_area=1.0, max_border=1.0, opening=0,
        )
    )  # fmt: skip
    assert json.loads((folder / "manifest.json").read_text())["pairs"] == 5
