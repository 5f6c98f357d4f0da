from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from saliency_gan.config import PredictConfig
from saliency_gan.prediction.recipe import recipe_of
from saliency_gan.saliency.photo_predictor import PhotoPredictor

KINDS = ("map", "map16", "mask", "cutout", "overlay")


class Network:
    resolution = 64

    def maps(self, squares: np.ndarray) -> np.ndarray:
        return squares[..., 0] / np.float32(255)


def changed(before: PredictConfig, after: PredictConfig, result: str = "a", model: str = "m") -> set[str]:
    """The kinds whose recipes differ."""
    recipes = [
        recipe_of(config, PhotoPredictor(Network(), config.resolution, config.scales, config.flip), sha256)
        for config, sha256 in ((before, "m"), (after, model))
    ]
    return {kind for kind in KINDS if recipes[0](result, kind) != recipes[1](result, kind)}


def test_a_result_depends_on_what_makes_it(tmp_path: Path) -> None:
    config = PredictConfig()
    assert (
        changed(config, config) == changed(config, replace(config, resolution=64, batch=3, precision="fp32")) == set()
    )
    assert changed(config, replace(config, threshold=0.3)) == {"mask", "cutout"}
    assert changed(config, replace(config, background="white")) == {"cutout"}
    assert changed(config, replace(config, smooth=0.1)) == set()
    assert changed(config, replace(config, smooth=0.1), "a.mp4") == set(KINDS)
    for change in ({"flip": False}, {"scales": (1.0, 1.5)}, {"resolution": 96}, {"refine": "guided"}):
        assert changed(config, replace(config, **change)) == set(KINDS)
    assert changed(config, config, model="other") == set(KINDS)
    matting = replace(config, refine="matting")
    assert changed(matting, replace(matting, threshold=0.3)) == set(KINDS)


def test_another_picture_of_the_same_name_is_another_background(tmp_path: Path) -> None:
    path = tmp_path / "sky.png"
    Image.new("RGB", (4, 4)).save(path)
    config = replace(PredictConfig(), background=str(path))
    predictor = PhotoPredictor(Network())
    before = recipe_of(config, predictor, "m")
    Image.new("RGB", (5, 4)).save(path)
    after = recipe_of(config, predictor, "m")
    assert before("a", "map") == after("a", "map") and before("a", "cutout") != after("a", "cutout")
