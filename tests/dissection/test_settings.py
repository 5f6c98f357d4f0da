"""The settings of a segmentation model, of alpha and of the page reach what they are about."""

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from saliency_gan.config import DissectConfig
from saliency_gan.dissection import dissect as stage
from saliency_gan.dissection import effects
from saliency_gan.dissection.dissect import dissect
from tests.dissection.worlds import SquareWorld

OWN = """
import torch

class Threshold(torch.nn.Module):
    class_names = ("below", "above")

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, images):
        above = 4 * (images.mean(1, keepdim=True) - self.threshold)
        return torch.cat([-above, above], dim=1)

def model(weights=None):
    return Threshold(float(open(weights).read()) if weights else -2.0)
"""


def dissected(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[str, dict[str, Any]]:
    """The page and dissection.json of the square world by a model of the user's own, whose weights are a threshold."""
    monkeypatch.setattr(stage, "load_chosen", lambda _: SquareWorld().freeze())
    monkeypatch.setattr(stage, "load_model", lambda _: None)  # no concept is a saliency model's
    (folder / "own.py").write_text(OWN)
    (folder / "weights.txt").write_text("0.5")
    config = DissectConfig(
        **{
            "run": folder, "device": "cpu", "images": 16, "effect_images": 0, "artifact_images": 0, "concept": "above",
            "mask_concept": "above", "concepts": (f"{folder}/own.py:model",), "concept_weights": folder / "weights.txt",
            **settings,
        }
    )  # fmt: skip
    return dissect(config).read_text(), json.loads((folder / "dissect" / "dissection.json").read_text())


def test_the_page_shows_as_many_units_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, _ = dissected(tmp_path, monkeypatch, top_units=2)
    assert "The 2 units that agree best, of 6" in page
    height, gap = 96, 2
    assert cv2.imread(str(tmp_path / "dissect" / "units" / "painter.png")).shape[0] == 2 * height + gap


def test_the_models_weights_and_names_are_those_that_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.txt").write_text("night\nday\n")
    named = {"concept_names": tmp_path / "names.txt", "concept": "day", "mask_concept": "day"}
    _, found = dissected(tmp_path, monkeypatch, **named)
    assert found["concepts"] == [{"name": "night", "kind": "object"}, {"name": "day", "kind": "object"}]
    square = found["layers"]["painter"][3]  # what is above .5; above -2, which is without weights, is everything
    assert (square["concept"], square["iou"]) == ("day", 1.0)


def test_units_with_the_largest_alpha_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "ALPHA_IMAGES", 16)
    settings = {"effect_images": 8, "region": "everywhere", "units": 6}
    _, found = dissected(tmp_path, monkeypatch, **settings)
    found = found["interventions"]
    assert found["by_alpha"][0] == 3 and sorted(found["by_alpha"]) == list(range(6))
    first = found["alpha"][0]
    assert first["units"] == 1 and first["smallest"] > 0.5 and first["ace"] > 0.5
    smallest = [row["smallest"] for row in found["alpha"]]
    assert smallest == sorted(smallest, reverse=True) and smallest[-1] < 0.3
