"""Masks and maps as other programs save them: all of them have to give the figures of plain ones."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from saliency_gan.config import EvaluateConfig
from saliency_gan.errors import UserError
from saliency_gan.evaluation.evaluate import evaluate
from saliency_gan.training.validation import PhotoCheck

SIZE = (20, 30)
WHITE = np.full((*SIZE, 3), 255, np.uint8)
COLOURS = np.random.default_rng(9).integers(0, 256, (*SIZE, 3), np.uint8)


def blobs(seed: int) -> list[np.ndarray]:
    """Rectangles, uint8 [H, W] of 0 and 255; the third is empty."""
    rng = np.random.default_rng(seed)
    masks = []
    for number in range(5):
        mask = np.zeros(SIZE, np.uint8)
        if number != 2:
            mask[rng.integers(0, 8) : rng.integers(9, 20), rng.integers(0, 12) : rng.integers(14, 30)] = 255
        masks.append(mask)
    return masks


def save(folder: Path, masks: list[np.ndarray], suffix: str, write: Callable[[Path, np.ndarray], object]) -> Path:
    for number, mask in enumerate(masks):
        path = folder / "deep" / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, mask)
    return folder


def plain(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(path)


def with_alpha(colours: np.ndarray) -> Callable[[Path, np.ndarray], None]:
    return lambda path, mask: Image.fromarray(np.dstack([colours, mask])).save(path)


KINDS: dict[str, tuple[str, Callable[[Path, np.ndarray], object]]] = {
    "of 0 and 1": (".png", lambda path, mask: plain(path, mask // 255)),
    "white on transparent": (".png", with_alpha(WHITE)),
    "black on transparent": (".png", with_alpha(0 * WHITE)),
    "cut-outs": (".png", with_alpha(COLOURS)),
    "16 bit of 0 and 1": (".png", lambda path, mask: Image.fromarray((mask // 255).astype(np.uint16)).save(path)),
    "32 bit to 255": (".tif", lambda path, mask: tifffile.imwrite(path, mask.astype(np.int32))),
    "32 bit of 0 and 1": (".tif", lambda path, mask: tifffile.imwrite(path, (mask // 255).astype(np.int32))),
    "float to 1": (".tif", lambda path, mask: tifffile.imwrite(path, (mask / 255).astype(np.float32))),
    "float to 255": (".tif", lambda path, mask: tifffile.imwrite(path, mask.astype(np.float32))),
    "TGA": (".tga", plain),
    "JPEG 2000": (".jp2", plain),
}


def figures(tmp_path: Path, masks: Path, maps: Path) -> dict[str, float]:
    config = EvaluateConfig(masks=masks, maps=maps, output=tmp_path / "figures.json", baselines=False)
    return json.loads(evaluate(config).read_text())["model"]


def iou(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    both = [np.logical_and(*pair).sum() for pair in zip(maps, masks, strict=True)]
    either = [np.logical_or(*pair).sum() for pair in zip(maps, masks, strict=True)]
    return float(np.mean([b / e if e else 1.0 for b, e in zip(both, either, strict=True)]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["masks", "maps"])
def test_figures_do_not_depend_on_how_masks_and_maps_are_saved(tmp_path: Path, side: str, kind: str) -> None:
    saved = {"masks": blobs(1), "maps": blobs(2)}
    expected = figures(tmp_path, *(save(tmp_path / name, saved[name], ".png", plain) for name in ("masks", "maps")))
    assert (
        expected["iou"] == pytest.approx(iou(saved["maps"], saved["masks"]), abs=1e-4) and 0.2 < expected["iou"] < 0.9
    )
    suffix, write = KINDS[kind]
    other = {side: save(tmp_path / "other", saved[side], suffix, write)}
    assert figures(tmp_path, **({name: tmp_path / name for name in saved} | other)) == expected


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_what_lies_on_its_side_is_left_out_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str
) -> None:
    masks, maps = blobs(1), blobs(2)
    maps[1] = np.rot90(maps[1])
    folders = save(tmp_path / "masks", masks, ".png", plain), save(tmp_path / "maps", maps, suffix, plain)
    figures(tmp_path, *folders)
    assert len(json.loads((tmp_path / "figures.json").read_text())["dataset"]["skipped"]) == 1
    said = capsys.readouterr().out
    assert "has 30 x 20 pixels and" in said and "20 x 30: turn one of them by 90 degrees" in said


def test_a_check_in_training_takes_the_same_masks(tmp_path: Path) -> None:
    import torch

    for number, mask in enumerate(blobs(1)):
        for folder, name, image in (("images", "caf\u00e9", COLOURS), ("masks", "cafe\u0301", mask // 255)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / folder / f"{name}{number}.png")
    check = PhotoCheck(tmp_path, torch.device("cpu"))
    assert all((read == (mask > 0)).all() for read, mask in zip(check.masks, blobs(1), strict=True))


def test_grey_maps_with_an_opacity_of_their_own_are_named(tmp_path: Path) -> None:
    masks = save(tmp_path / "masks", blobs(1), ".png", plain)
    grey = np.repeat(COLOURS[:, :, :1], 3, axis=2)
    maps = save(tmp_path / "maps", [np.maximum(mask, 9) for mask in blobs(2)[:2]], ".png", with_alpha(grey))
    with pytest.raises(UserError, match="grey values and is transparent in parts"):
        figures(tmp_path, masks, maps)


def test_weights_beside_finished_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--weights is model, but has to be left out with --maps; --compare"):
        EvaluateConfig(masks=tmp_path, maps=tmp_path, weights=Path("model")).check()
