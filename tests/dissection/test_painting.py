import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from saliency_gan.config import DissectConfig, MasksConfig
from saliency_gan.dissection import dissect as stage
from saliency_gan.dissection.dissect import dissect
from saliency_gan.dissection.layers import dissect_layers
from saliency_gan.dissection.painting import Painting
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.dissection.units import JointCounts, threshold_candidates
from saliency_gan.errors import UserError
from saliency_gan.generators.units import ablate
from saliency_gan.masks import candidates
from saliency_gan.masks.shards import open_shards
from saliency_gan.masks.synthesis import synthesise
from tests.dissection.test_dissection import White, features_and_concepts
from tests.dissection.worlds import SQUARE, SquareWorld
from tests.masks.reading import read_all


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SquareWorld:
    """Makes dissect and masks load the square world."""
    generator = SquareWorld().freeze()
    for module in (stage, candidates):
        monkeypatch.setattr(module, "load_chosen", lambda _: generator)
    return generator


def painting_of(generator: SquareWorld, count: int, concept: int = 0) -> Painting:
    painting = Painting("white", concept, count, seed=0)
    sampler = Sampler(generator, ["painter"], Fabric(accelerator="cpu", devices=1), seed=0, among=None)
    dissect_layers(sampler, White(), 40, 0.05, 0, painting)
    return painting


def test_the_complement_counts_the_other_pixels():
    features, concepts = features_and_concepts()
    found = threshold_candidates(features)
    counts, expected = JointCounts(found, 3), JointCounts(found, 3)
    counts.add(features, concepts)
    expected.add(features, ~concepts)
    assert torch.equal(counts.complement().present, expected.present)
    assert torch.equal(counts.complement().all, expected.all)


@pytest.mark.parametrize("count", [1, 50])
def test_the_unit_that_paints_the_square_is_the_painter(world: SquareWorld, count: int):
    plain = painting_of(world, count).to_plain()
    assert plain is not None and plain["concept"] == "white"
    first = plain["units"][0]
    assert (first["layer"], first["unit"], first["paints"]) == ("painter", 3, "object")
    assert first["quality"] == pytest.approx(1.0) and 0 <= first["threshold"] < 2
    assert (plain["iou"], plain["low"], plain["high"]) == (1.0, 1.0, 1.0)


def test_what_is_around_a_concept_is_painted_as_well(world: SquareWorld):
    """Black is where the square is not, so unit 3 paints the background of `black`."""
    plain = painting_of(world, 1, concept=1).to_plain()
    assert plain is not None
    assert (plain["units"][0]["unit"], plain["units"][0]["paints"]) == (3, "background")


def test_the_best_units_are_taken_once_each():
    features, concepts = features_and_concepts(12)
    counts = {}
    for name, some in (("one", features), ("other", -features)):  # the other layer's are on where these are off
        counts[name] = JointCounts(threshold_candidates(some), 3)
        counts[name].add(some, concepts)
    painting = Painting("first", 0, 3, seed=0)
    painting.choose(counts)
    assert painting.painters is not None
    units = painting.painters.units
    assert len({(one.layer, one.unit) for one in units}) == len(units) <= 3
    assert [one.quality for one in units] == sorted((one.quality for one in units), reverse=True)
    assert {("one", 0, "object"), ("other", 0, "background")} <= {(one.layer, one.unit, one.paints) for one in units}


def test_no_unit_is_no_painter(world: SquareWorld):
    assert painting_of(ablate(world, ["painter:3"]), 5).to_plain() is None
    assert painting_of(SquareWorld().freeze(), 0).to_plain() is None


def test_masks_of_units_are_the_squares(world: SquareWorld, tmp_path: Path):
    """From dissect to shards, without any directions."""
    settings = {"run": tmp_path, "device": "cpu"}
    dissect(DissectConfig(**settings, images=24, mask_concept="white", concept="white", effect_images=0))
    page = (tmp_path / "dissect" / "dissect.html").read_text()
    assert "Units that make masks" in page
    config = MasksConfig(**settings, rule="units", pairs=10, batch=8, shard_size=5, opening=0)
    assert config.reads() == [tmp_path / "dissect"]
    folder = synthesise(config)
    images, masks, infos = read_all(open_shards(folder))
    truth = np.zeros((16, 16), np.uint8)
    truth[SQUARE] = 255
    assert len(masks) == 10 and (masks == truth).all()
    assert (images[:, 6, 10] > 250).all() and all(info["shift"] is None for info in infos)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "directions_sha256" not in manifest and len(manifest["painters_sha256"]) == 64
    assert manifest["polarity"] is None and set(manifest["rejections"]) == {"min_area"}  # the images without a square


def test_an_interrupted_set_goes_on_and_other_painters_are_refused(world: SquareWorld, tmp_path: Path):
    settings = {"run": tmp_path, "device": "cpu"}
    dissect(DissectConfig(**settings, images=24, mask_concept="white", concept="white", effect_images=0))
    config = MasksConfig(**settings, rule="units", pairs=10, batch=8, shard_size=5)
    folder = synthesise(config)
    before = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    (folder / "shard-000001.tar").unlink()
    synthesise(config)
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before
    path = tmp_path / "dissect" / "dissection.json"
    found = json.loads(path.read_text())
    found["painters"]["units"][0]["threshold"] += 0.1
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match="other directions, other units"):
        synthesise(config)


@pytest.mark.parametrize(
    ("change", "sentence"), [({"mask_concept": "cat"}, "no concept 'cat'"), ({"mask_units": -1}, "--mask_units is -1")]
)
def test_what_cannot_be_painted_is_refused(world: SquareWorld, tmp_path: Path, change: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        dissect(DissectConfig(run=tmp_path, device="cpu", **change))
