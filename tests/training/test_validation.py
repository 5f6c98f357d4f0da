from pathlib import Path

import numpy as np
import pytest
import torch

from saliency_gan.errors import UserError
from saliency_gan.images.overlap import intersection_over_union
from saliency_gan.images.writing import write_image
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.predictor import Predictor
from saliency_gan.training.pairs import Pairs
from saliency_gan.training.validation import PhotoCheck, measure, measure_pairs
from tests.saliency.toys import TINY_ARCHITECTURE, discs, write_photos

CPU = torch.device("cpu")


def loop(maps: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float]:
    totals = {"iou": 0.0, "accuracy": 0.0, "mae": 0.0}
    for map_, mask in zip(maps, masks, strict=True):
        both = either = right = 0
        error = 0.0
        for value, wanted in zip(map_.ravel().tolist(), mask.ravel().tolist(), strict=True):
            marked = value >= 0.5
            both += marked and wanted
            either += marked or wanted
            right += marked == wanted
            error += abs(value - wanted)
        totals["iou"] += both / either / len(maps)
        totals["accuracy"] += right / map_.size / len(maps)
        totals["mae"] += error / map_.size / len(maps)
    return totals


def test_figures_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random(shape, dtype=np.float32) for shape in ((5, 7), (8, 3), (4, 4))]
    masks = [rng.random(map_.shape) > 0.5 for map_ in maps]
    assert measure(maps, masks) == pytest.approx(loop(maps, masks), abs=1e-6)


def test_two_empty_masks_agree() -> None:
    nothing, something = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
    assert intersection_over_union(nothing, nothing) == 1.0
    assert intersection_over_union(nothing, something) == 0.0


def test_pairs_and_photos_are_measured_as_by_hand(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SaliencyModel(TINY_ARCHITECTURE).eval()
    images, masks = discs(5)
    with torch.no_grad():
        maps = model(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).sigmoid()[:, 0].numpy()
    assert measure_pairs(model, CPU, Pairs(images, masks)) == pytest.approx(
        loop(list(maps), list(masks > 127)), abs=1e-5
    )

    folder = write_photos(tmp_path, 4)
    paths = sorted((folder / "images").iterdir())
    truth = [disc_mask(folder / "masks" / path.name) for path in paths]
    expected = loop([Predictor(model, CPU).predict(path) for path in paths], truth)
    assert PhotoCheck(folder, CPU).measure(model) == pytest.approx(
        {f"photos_{name}": value for name, value in expected.items()}, abs=1e-5
    )


def disc_mask(path: Path) -> np.ndarray:
    from PIL import Image

    return np.array(Image.open(path)) > 127


def test_photos_need_masks_of_their_name_and_size(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        PhotoCheck(tmp_path, CPU)
    folder = write_photos(tmp_path, 2)
    (folder / "masks" / "photo-1.png").unlink()
    with pytest.raises(UserError, match=r"photo-1\.png has no mask"):
        PhotoCheck(folder, CPU)
    write_image(folder / "masks" / "photo-1.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(UserError, match="another size"):
        PhotoCheck(folder, CPU)
