"""A photo from standard input, a result to standard output: bytes that other programs read, and nothing else."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saliency_gan.config import PredictConfig
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.prediction import pipes
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.pipes import mark_to_output
from saliency_gan.prediction.predict import predict
from tests.prediction.test_predict import config, photo, results
from tests.prediction.test_video import PREDICTOR, two_greys

__all__ = ["config"]
STREAM = Path("-")


class Input(io.TextIOWrapper):
    """Standard input that holds a file."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


@pytest.mark.parametrize(("kind", "format_"), [("map", "PNG"), ("cutout", "PNG"), ("overlay", "JPEG")])
def test_the_result_is_that_of_the_folder(
    config: PredictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture,
    kind: str, format_: str,
) -> None:  # fmt: skip
    path = photo(tmp_path / "photo.png")
    config = replace(config, save=(kind,))
    assert predict(config, [path]) == 0
    (expected,) = (tmp_path / "out" / kind).iterdir()
    capsysbinary.readouterr()
    monkeypatch.setattr("sys.stdin", Input(path.read_bytes()))
    for given in (path, STREAM):
        assert predict(replace(config, output=STREAM), [given]) == 0
        written = capsysbinary.readouterr().out
        assert written == expected.read_bytes() and Image.open(io.BytesIO(written)).format == format_
    assert not Path("-").exists()


def test_a_photo_from_standard_input_has_a_result_of_its_own(
    config: PredictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [photo(tmp_path / f"{seed}.png", seed=seed) for seed in range(2)]
    maps = []
    for path in paths:
        monkeypatch.setattr("sys.stdin", Input(path.read_bytes()))
        assert predict(replace(config, save=("map",), skip_existing=True), [STREAM]) == 0
        maps.append(np.array(Image.open(tmp_path / "out" / "map" / "stdin.png")).astype(int))
    assert results(tmp_path / "out") == ["map/stdin.png"]
    assert np.abs(maps[0] - maps[1]).max() > 5


def test_what_is_no_photo_is_a_failure(
    config: PredictConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(pipes, "LARGEST_INPUT", 1000)
    for data, reason in ((b"", "it is empty"), (b"text", "no known format"), (b"x" * 1001, "more than 1,000 bytes")):
        monkeypatch.setattr("sys.stdin", Input(data))
        assert predict(replace(config, save=("map",), output=STREAM), [STREAM]) == 1
        said = capsys.readouterr()
        assert f"saliency-gan: {pipes.INPUT} " in said.err and reason in said.err and not said.out
    monkeypatch.setattr("sys.stdin", None)
    assert predict(replace(config, save=("map",), output=STREAM), [STREAM]) == 1


@pytest.mark.parametrize(
    ("paths", "save"),
    [(["a.jpg"], ("map", "mask")), (["a.jpg", "b.jpg"], ("map",)), (["a.mp4"], ("map",)), ([""], ("map",))],
)
def test_only_one_result_goes_out(config: PredictConfig, tmp_path: Path, paths: list[str], save: tuple) -> None:
    with pytest.raises(UserError, match="--output - writes one result of one photo"):
        predict(replace(config, output=STREAM, save=save), [tmp_path / path for path in paths])


@pytest.mark.slow
def test_the_command_pipes(config: PredictConfig, tmp_path: Path) -> None:
    path = photo(tmp_path / "photo.png", (30, 40))
    command = [sys.executable, "-m", "saliency_gan", "predict", "-", "--output", "-", "--save", "mask"]
    done = subprocess.run(
        [*command, "--weights", config.weights], input=path.read_bytes(), capture_output=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert set(np.unique(np.array(Image.open(io.BytesIO(done.stdout))))) <= {0, 255}


@pytest.mark.parametrize(("threshold", "share"), [(0.3, 1.0), (0.5, 0.5), (0.9, 0.0)])
def test_the_mask_has_the_threshold_that_was_asked_for(
    capsysbinary: pytest.CaptureFixture, tmp_path: Path, threshold: float, share: float
) -> None:
    photo = two_greys(64, 64, edge=32)  # which are .39 and .78
    mask = np.array(marked(PredictConfig(save=("mask",), threshold=threshold), photo, tmp_path, capsysbinary))
    assert set(np.unique(mask)) <= {0, 255} and (mask > 0).mean() == share


@pytest.mark.parametrize(("refine", "least", "most"), [("none", 0, 40), ("guided", 100, 200), ("solver", 230, 255)])
def test_the_map_is_refined_as_was_asked_for(
    capsysbinary: pytest.CaptureFixture, tmp_path: Path, refine: Any, least: int, most: int
) -> None:
    edge = 124  # in the middle of a column of the network's
    photo = two_greys(64, 256, edge, low=0, high=255)
    found = np.array(marked(PredictConfig(save=("map",), refine=refine), photo, tmp_path, capsysbinary)).astype(int)
    step = found[:, edge] - found[:, edge - 1]
    assert least <= step.min() and step.max() <= most


def marked(
    config: PredictConfig, photo: ImageArray, folder: Path, written: pytest.CaptureFixture[bytes]
) -> Image.Image:
    """What is written to standard output for a photo whose brightness is its saliency."""
    Image.fromarray(photo).save(folder / "photo.png")
    mark_to_output(folder / "photo.png", PREDICTOR, Background("transparent"), config)
    return Image.open(io.BytesIO(written.readouterr().out))
