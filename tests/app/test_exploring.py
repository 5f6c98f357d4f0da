from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from saliency_gan.app.exploring import GAP, NO_COLUMN, SHOWN, TILE, Explorer
from saliency_gan.config import AppConfig
from saliency_gan.directions.discovered import open_discovered
from saliency_gan.errors import UserError
from saliency_gan.generators.zoo import load_generator
from saliency_gan.results.directions import load_directions
from saliency_gan.runs.random_streams import Stream, random_stream
from tests.directions.finished import finished_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = finished_run(tmp_path)
    (run / "masks").mkdir()
    settings = {"rule": "two-sided", "theta": 0.6, "shift": 2.0, "opening": 0, "fill_holes": False, "min_component": 0}
    (run / "masks" / "config.yaml").write_text(yaml.safe_dump(settings | {"pairs": 10}), encoding="utf-8")
    return run


def explorer_of(run: Path, **settings: object) -> Explorer:
    config = AppConfig(run=run, device="cpu")
    found = open_discovered(config.choice, config.directions)
    return Explorer(found, replace(config.mask_settings, **settings), None)


@pytest.fixture
def explorer(run: Path) -> Explorer:
    return explorer_of(run, seed=5, precision="fp32")


def tiles(row: np.ndarray) -> list[np.ndarray]:
    assert row.shape == (TILE, SHOWN * (TILE + GAP) - GAP, 3)
    return [row[:, start : start + TILE] for start in range(0, row.shape[1], TILE + GAP)]


def drawn(run: Path, class_index: int, direction: int, shift: float, along_background: float = 0.0) -> torch.Tensor:
    """G(z + s h + e h_bg, c) by direct calls, in [0, 1]."""
    generator, directions = load_generator(str(run.parent / "tiny.safetensors")), load_directions(run / "discover")
    column = directions.matrix[:, direction]
    latents = torch.randn(SHOWN, generator.latent_dim, generator=random_stream(5, Stream.EXPLORING, 3))
    moved = latents + shift * column / column.norm() + along_background * directions.background_vector
    with torch.no_grad():
        return (generator(moved, torch.full((SHOWN,), class_index)) + 1) / 2


def test_rows_are_direct_calls_of_the_generator(explorer: Explorer, run: Path) -> None:
    moved = explorer.move(3, 1, 2, -4.5)
    for shown, images in ((moved.images, drawn(run, 1, 2, -4.5)), (explorer.start(3, 1), drawn(run, 1, 2, 0.0))):
        for tile, image in zip(tiles(shown), images, strict=True):
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
            large = cv2.resize(pixels, (TILE, TILE), interpolation=cv2.INTER_CUBIC).astype(int)
            assert np.abs(tile.astype(int) - large).max() <= 3  # a value may round to its neighbour
    assert not np.array_equal(moved.images, explorer.move(3, 1, 2, 4.5).images)


def test_masks_are_by_the_rule_of_the_run(explorer: Explorer, run: Path) -> None:
    plus, minus = (drawn(run, 0, 1, 3.0, sign * 2.0).mean(dim=1).double() for sign in (1, -1))
    expected = ((plus < 0.6) & (1 - minus < 0.6)).numpy()
    assert 0.02 < expected.mean() < 0.98
    for tile, mask in zip(tiles(explorer.move(3, 0, 1, 3.0).masks), expected, strict=True):
        large = cv2.resize(mask.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_NEAREST)
        assert (tile[:, :, 0] != large * 255).mean() < 0.01
        assert set(np.unique(tile)) <= {0, 255}
    assert explorer.rule == "rule two-sided, theta 0.6, h_bg with shift 2"


def test_nothing_moves_at_shift_0(explorer: Explorer) -> None:
    np.testing.assert_array_equal(explorer.move(1, None, 0, 0.0).images, explorer.start(1, None))
    assert not np.array_equal(explorer.start(1, None), explorer.start(2, None))


def test_directions_are_ranked_and_have_their_names(run: Path) -> None:
    found = load_directions(run / "discover")
    replace(found, names={0: "size"}, scores=found.scores[:4]).save(run / "discover")
    titles = explorer_of(run).directions
    assert [index for _, index in titles] == [4, 0, 5, 2, 1, 3]
    assert titles[0][0] == "4, background score 0.50, is -h_bg"
    assert titles[1][0] == "0 size, background score 0.50"
    assert titles[4][0] == "1"


def test_a_background_direction_that_is_no_column_comes_first(run: Path) -> None:
    found = load_directions(run / "discover")
    searched = replace(found.background, index=None, sign=1, method="optimise", score=0.74)
    replace(found, background=searched).save(run / "discover")
    explorer = explorer_of(run, seed=5, precision="fp32")
    assert explorer.directions[0] == ("h_bg, found by gradient, score 0.74", NO_COLUMN)
    assert [index for _, index in explorer.directions[1:]] == [4, 0, 5, 2, 1, 3]
    length = found.background_vector.norm().item()
    images = drawn(run, 1, 0, 0.0, along_background=2.5 / length)
    for tile, image in zip(tiles(explorer.move(3, 1, NO_COLUMN, 2.5).images), images, strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        large = cv2.resize(pixels, (TILE, TILE), interpolation=cv2.INTER_CUBIC).astype(int)
        assert np.abs(tile.astype(int) - large).max() <= 3


def test_a_run_without_masks_takes_the_default_rule(tmp_path: Path) -> None:
    settings = AppConfig(run=tmp_path, device="cpu").mask_settings
    assert (settings.rule, settings.theta, settings.shift, settings.device) == ("threshold", 0.9, None, "cpu")


@pytest.mark.parametrize(
    ("place", "named"),
    [((0, None, 6, 0.0), "no direction 6"), ((0, None, NO_COLUMN, 0.0), "no direction -1"),
     ((0, 99, 0, 0.0), "no class 99"), ((0, None, 0, 8.1), "-8 and 8"), ((0, None, 0, float("nan")), "-8 and 8")],
)  # fmt: skip
def test_what_no_page_sends_is_refused(explorer: Explorer, place: tuple, named: str) -> None:
    with pytest.raises(UserError, match=named):
        explorer.move(*place)


def test_the_page_takes_over_what_masks_were_made_with(run: Path) -> None:
    path = run / "masks" / "config.yaml"
    written = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(written | {"directions": str(run / "discover"), "dissection": "other"}))
    config = AppConfig(run=run, device="cpu")
    assert (config.directions.origin, config.directions.path) == ("named", run / "discover")
    assert (config.dissection.origin, config.dissection.path) == ("named", Path("other"))


def test_the_page_takes_over_the_generator_of_the_masks(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    path = tmp_path / "masks" / "config.yaml"
    path.write_text(yaml.safe_dump({"generator": "biggan-caltech101-64-projected", "shift": 2.0}))
    config = AppConfig(run=tmp_path, device="cpu")
    assert config.choice.name == config.directions.name == "biggan-caltech101-64-projected"
    assert replace(config, generator="sngan-mnist").choice.name == "sngan-mnist"
    path.write_text(yaml.safe_dump({"generator": "my.py:load"}))
    with pytest.raises(UserError, match=r"code is only run when a person names it: add --generator my\.py:load"):
        _ = config.choice


@pytest.mark.parametrize("change", [{"rule": "nonsense"}, {"theta": "high"}, {"opening": -3}, {"directions": 5}])
def test_settings_that_masks_did_not_write_are_refused(run: Path, change: dict[str, object]) -> None:
    path = run / "masks" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(UserError, match=r"config\.yaml is not as masks wrote it"):
        explorer_of(run)
