"""Edited and hostile videos: results or one sentence, and nothing else beside them."""

import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliency_gan.config import PredictConfig
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.jobs import VIDEO_SUFFIXES, Job
from saliency_gan.prediction.video import mark_video
from saliency_gan.saliency.photo_predictor import PhotoPredictor
from saliency_gan.storage.provenance import Source
from tests.prediction.test_video_files import Everything, Recipe
from tests.safety.fuzzing import broken, fuzzed, survives

SIX = {"times": range(6), "last": 1, "base": Fraction(1, 25)}
RECIPES = {
    ".mp4": Recipe(**SIX, sound="aac", movflags="faststart", turn=(90, False, False)),
    ".avi": Recipe(**SIX, codec="mpeg4", sound="pcm_s16le"),
    ".mkv": Recipe(**SIX, sound="libmp3lame"),
    ".webm": Recipe(**SIX, codec="libvpx", sound="libopus"),
    ".ts": Recipe(**SIX, sound="aac"),
    ".mpg": Recipe(**SIX, codec="mpeg2video", sound="mp2"),
    ".wmv": Recipe(**SIX, codec="wmv2", sound="wmav2"),
    ".flv": Recipe(**SIX, codec="flv", sound="aac"),
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small video of every kind of file."""
    folder = tmp_path_factory.mktemp("videos")
    return {suffix: recipe.write(folder / f"a{suffix}").read_bytes() for suffix, recipe in RECIPES.items()}


def mark(path: Path) -> None:
    """Marks a video; nothing half written may stay, and what is there has to be whole."""
    config = PredictConfig(output=path.parent / "out", save=("mask",))
    try:
        job = Job(path, Path("result"), Source.of(path))
        mark_video(job, PhotoPredictor(Everything(), flip=False), Background("white"), config)
        assert (config.output / "mask" / "result.mp4").is_file()
    finally:
        left = [file.name for file in config.output.rglob("*") if file.is_file()]
        shutil.rmtree(config.output, ignore_errors=True)
        assert left in ([], ["result.mp4"])


@fuzzed(100)
@given(data=st.data(), kind=st.sampled_from(sorted(RECIPES)))
def test_edited_videos(tmp_path: Path, valid: dict[str, bytes], data: st.DataObject, kind: str) -> None:
    path = tmp_path / f"video{data.draw(st.sampled_from([kind, *sorted(VIDEO_SUFFIXES)]))}"
    path.write_bytes(data.draw(broken(valid[kind], 600)))
    survives(lambda: mark(path), tmp_path)


@fuzzed(20)
@given(st.binary(max_size=300), st.sampled_from(sorted(VIDEO_SUFFIXES)))
def test_random_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"video{suffix}"
    path.write_bytes(content)
    survives(lambda: mark(path), tmp_path)
