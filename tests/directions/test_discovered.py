import json
from pathlib import Path
from typing import Any

import pytest
import torch

from saliency_gan.config import WalkConfig
from saliency_gan.directions.discovered import Discovered
from saliency_gan.directions.discovered import open_discovered as open_found
from saliency_gan.errors import UserError
from saliency_gan.generators.zoo import save_generator
from saliency_gan.storage.bundled import bundled_folder
from tests.directions.finished import finished_run
from tests.directions.worlds import tiny_biggan

BUNDLED = "biggan-caltech101-64"


def open_discovered(run: Path, **settings: Any) -> Discovered:
    config = WalkConfig(run=run, **settings)
    return open_found(config.choice, config.found_directions)


def test_a_run_says_itself_which_generator_its_directions_belong_to(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    found = open_discovered(run)
    assert found.folder == run / "discover"
    assert found.generator.sha256 == found.directions.generator["sha256"]


def test_a_generator_that_was_moved_can_be_named(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (tmp_path / "tiny.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(UserError, match="There is no generator"):
        open_discovered(run)
    assert open_discovered(run, generator=str(tmp_path / "moved.safetensors")).generator.latent_dim == 12


def test_another_generator_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    other = tiny_biggan()
    other.last.bias.data += 0.1
    save_generator(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="belong to generator tiny"):
        open_discovered(run, generator=str(tmp_path / "other.safetensors"))


def test_a_run_on_a_generator_without_units_says_so_itself(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    repaired = open_discovered(run, ablate_units=["block0:1"]).generator  # directions of the whole generator
    assert repaired.intact_sha256 == open_discovered(run).generator.sha256
    path = run / "discover" / "directions.json"
    description = json.loads(path.read_text())
    description["config"]["ablate_units"] = ["block0:1"]
    description["generator"] = {"name": repaired.name, "sha256": repaired.sha256}
    path.write_text(json.dumps(description))
    assert open_discovered(run).generator.sha256 == repaired.sha256
    with pytest.raises(UserError, match=r"belong to generator tiny without units \(1 of block0\).*--ablate_units"):
        open_discovered(run, ablate_units=["block0:2"])
    description["config"]["ablate_units"] = {"block0": 1}
    path.write_text(json.dumps(description))
    with pytest.raises(UserError, match="names no units"):
        open_discovered(run)


def test_the_bundled_directions_stand_in_for_a_run_without_any(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"run discover first.*--generator {BUNDLED}"):
        open_discovered(tmp_path, generator="sngan-mnist")
    found = open_discovered(tmp_path)
    assert found.folder == bundled_folder(BUNDLED)
    assert found.directions.names == {}, "the file was written before directions had names"
    description = json.loads((found.folder / "directions.json").read_text())
    assert found.directions.matrix.shape == (description["latent_dim"], description["K"])
    assert torch.isfinite(found.directions.matrix).all()
