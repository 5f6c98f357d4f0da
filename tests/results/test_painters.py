import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saliency_gan.errors import UserError
from saliency_gan.generators.units import ablate
from saliency_gan.results.painters import Painter, Painters, load_painters
from saliency_gan.runs.random_streams import random_stream
from tests.dissection.worlds import SquareWorld

UNITS = (
    Painter("coarse", 1, "object", 0.2, 0.5),
    Painter("coarse", 0, "background", -0.1, 0.2),
    Painter("fine", 2, "background", 0.4, 0.25),
    Painter("fine", 0, "object", 0.0, 0.1),
)


def written(folder: Path, **changes: Any) -> Path:
    """A dissection.json of the square world, in which unit 3 paints the object."""
    world = SquareWorld()
    painters = Painters("white", (Painter("painter", 3, "object", 1.0, 0.9),)).to_plain()
    found = {"generator": {"name": world.name, "sha256": world.sha256}, "painters": painters, **changes}
    (folder / "dissection.json").write_text(json.dumps(found))
    return folder


def test_votes_are_counted_as_by_hand():
    random = random_stream(0)
    features = {"coarse": torch.randn(3, 4, 4, 4, generator=random), "fine": torch.randn(3, 3, 8, 8, generator=random)}
    found = Painters("thing", UNITS).votes(features, 8)
    assert found.dtype == torch.float32
    enlarged = {
        name: torch.nn.functional.interpolate(some, (8, 8), mode="bilinear").double().numpy()
        for name, some in features.items()
    }
    expected = np.zeros((3, 8, 8))
    for one in UNITS:
        on = enlarged[one.layer][:, one.unit] > np.float32(one.threshold)
        expected += one.quality * (on if one.paints == "object" else ~on)
    np.testing.assert_allclose(found.numpy(), expected / 1.05, atol=1e-6)
    assert expected.min() + 0.01 > 0 and found.min() >= 0 and found.max() <= 1


def test_what_all_agree_on_is_certain():
    features = {"coarse": torch.zeros(1, 2, 2, 2), "fine": torch.zeros(1, 3, 2, 2)}
    features["coarse"][:, 1], features["coarse"][:, 0] = 1.0, -1.0  # on where the object is, off where it is
    features["fine"][:, 0] = 1.0
    assert Painters("thing", UNITS).votes(features, 2).tolist() == [[[1.0, 1.0], [1.0, 1.0]]]
    flipped = {name: -some for name, some in features.items()}
    flipped["fine"][:, 2] = 1.0
    assert Painters("thing", UNITS).votes(flipped, 2).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_painters_come_back_and_have_an_identity(tmp_path: Path):
    world = SquareWorld().freeze()
    found = load_painters(written(tmp_path), world)
    assert found == Painters("white", (Painter("painter", 3, "object", 1.0, 0.9),)) and found.layers == ["painter"]
    assert found.sha256 == load_painters(tmp_path, world).sha256 != Painters("white", UNITS).sha256


def test_painters_hold_for_a_generator_that_lost_units_since_and_for_no_other(tmp_path: Path):
    repaired = ablate(SquareWorld().freeze(), ["painter:4"])
    assert load_painters(written(tmp_path), repaired).units[0].unit == 3
    written(tmp_path, generator={"name": "squares", "sha256": repaired.sha256})
    assert load_painters(tmp_path, repaired).units[0].unit == 3
    with pytest.raises(UserError, match=r"is about generator squares .* run dissect on it"):
        load_painters(tmp_path, SquareWorld())


def unit(**changes: Any) -> dict[str, Any]:
    plain = {"layer": "painter", "unit": 3, "paints": "object", "threshold": 1.0, "quality": 0.9, **changes}
    return {"painters": {"concept": "white", "units": [plain]}}


@pytest.mark.parametrize(
    "change",
    [
        {"painters": []},
        {"painters": {"concept": "white", "units": []}},
        {"painters": {"concept": "white"}},
        {"painters": {"concept": "white", "units": [3]}},
        {"generator": "squares"},
        unit(unit=-1),
        unit(unit=True),
        unit(layer=7),
        unit(paints="sky"),
        unit(threshold="high"),
        unit(threshold=float("nan")),
        unit(quality=0),
        unit(colour="red"),
    ],
)
def test_what_dissect_never_wrote_is_refused(tmp_path: Path, change: dict[str, Any]):
    with pytest.raises(UserError, match=r"dissection.json names no units that vote on masks: run dissect again"):
        load_painters(written(tmp_path, **change), SquareWorld())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"painters": None}, "No unit of squares agrees with what"),
        (unit(layer="roof"), "There is no layer 'roof', which"),
        (unit(unit=6), "There is no unit 6 in painter, which"),
    ],
)
def test_units_that_there_are_not_are_named(tmp_path: Path, change: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=re.escape(sentence)):
        world = SquareWorld().freeze()
        painters = load_painters(written(tmp_path, **change), world)
        painters.votes({"painter": torch.zeros(1, 6, 4, 4)}, 4)


def test_without_a_dissection_the_next_step_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"dissection.json does not exist.*run dissect first.*--dissection"):
        load_painters(tmp_path, SquareWorld())
