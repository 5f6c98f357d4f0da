from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from saliency_gan.cli.main import main
from saliency_gan.config import WalkConfig
from saliency_gan.directions.annotation import rename
from saliency_gan.directions.walk import walk
from saliency_gan.errors import StageError, UserError
from saliency_gan.generators.zoo import load_generator
from saliency_gan.images.reading import read_image
from saliency_gan.images.tensors import to_uint8
from saliency_gan.results.directions import load_directions
from saliency_gan.runs.random_streams import Stream, random_stream
from tests.directions.finished import finished_run

SIDE, GAP = 16, 2


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished_run(tmp_path)


def settings(run: Path, suffix: str, **others: object) -> WalkConfig:
    given = {"direction": 3, "samples": 3, "frames": 5, "scale": 1.0, "precision": "fp32", "device": "cpu", "seed": 7}
    return WalkConfig(run=run, output=run / f"walk{suffix}", **given | others)


def expected(run: Path, shift: float, vector: torch.Tensor, samples: int = 3, classes: tuple[int, ...] | None = None):
    """G(z + s h, c) of the walk's samples, uint8 [N, H, W, 3]."""
    generator = load_generator(str(run.parent / "tiny.safetensors"))
    random = random_stream(7, Stream.WALK)
    latents = generator.sample_latents(samples, random)
    with torch.no_grad():
        return to_uint8(generator(latents + shift * vector, generator.sample_classes(samples, random, classes)))


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = row * (SIDE + GAP), column * (SIDE + GAP)
    return sheet[top : top + SIDE, left : left + SIDE].astype(int)


def test_a_strip_has_a_row_a_latent_and_a_column_a_shift(run: Path) -> None:
    sheet = read_image(walk(settings(run, ".png", start=-4.0, end=4.0)))
    assert sheet.shape == (3 * (SIDE + GAP) - GAP, 5 * (SIDE + GAP) - GAP, 3)
    vector = load_directions(run / "discover").matrix[:, 3]
    for column, shift in enumerate((-4, -2, 0, 2, 4)):
        images = expected(run, shift, vector)
        for row in range(3):
            assert np.abs(tile(sheet, row, column) - images[row]).max() <= 1


@pytest.mark.parametrize("fps", [16, 34, 40, 50])
def test_a_gif_takes_as_long_as_its_frames_say(run: Path, fps: int) -> None:
    with Image.open(walk(settings(run, ".gif", fps=fps))) as animation:
        durations = []
        for number in range(animation.n_frames):
            animation.seek(number)
            durations.append(animation.info["duration"])
    assert sum(durations) == pytest.approx(1000 * len(durations) / fps, abs=5)
    assert max(durations) - min(durations) <= 10


@pytest.mark.parametrize(("back", "count"), [(True, 8), (False, 5)])
def test_a_gif_goes_there_and_back(run: Path, back: bool, count: int) -> None:
    path = walk(settings(run, ".gif", back=back, fps=20))
    with Image.open(path) as animation:
        assert (animation.n_frames, animation.info["duration"], animation.info["loop"]) == (count, 50, 0)
        assert animation.size == (2 * (SIDE + GAP) - GAP,) * 2
        frames = []
        for number in range(count):
            animation.seek(number)
            frames.append(np.asarray(animation.convert("RGB")))
    vector = load_directions(run / "discover").matrix[:, 3]
    for number, shift in ((0, -8), (2, 0), (4, 8)):
        images = expected(run, shift, vector)
        for sample in range(3):
            errors = [np.abs(tile(frame, sample // 2, sample % 2) - images[sample]).mean() for frame in frames[:5]]
            assert np.argmin(errors) == number and errors[number] < 10, "256 colours of noise are not exact"
    if back:
        assert all(np.abs(frames[8 - number].astype(int) - frames[number]).max() == 0 for number in range(1, 4))


def test_an_mp4_that_opencv_could_not_write_is_an_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk:
        """A writer that says nothing about what it could not write, as OpenCV's."""

        fourcc = cv2.VideoWriter.fourcc

        def __init__(self, path: str, *_: object) -> None:
            Path(path).touch()

        def isOpened(self) -> bool:
            return True

        def write(self, image: object) -> None: ...

        def release(self) -> None: ...

    path = walk(settings(run, ".mp4", samples=1, frames=3))
    before = path.read_bytes()
    monkeypatch.setattr(cv2, "VideoWriter", FullDisk)
    with pytest.raises(StageError, match="The mp4 could not be written to"):
        walk(settings(run, ".mp4", samples=1, frames=3))
    assert path.read_bytes() == before


def test_an_mp4_has_its_frames_and_rate(run: Path) -> None:
    path = walk(settings(run, ".mp4", fps=10, scale=1.5, samples=1, frames=7))
    video = cv2.VideoCapture(str(path))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (12, 10)
    frames = []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    assert len(frames) == 12 and frames[0].shape == (24, 24, 3)
    vector = load_directions(run / "discover").matrix[:, 3]
    for number, shift in ((0, -8), (3, 0), (6, 8)):
        image = cv2.resize(expected(run, shift, vector, samples=1)[0], (24, 24), interpolation=cv2.INTER_CUBIC)
        errors = [np.abs(frame.astype(int) - image).mean() for frame in frames[:7]]
        assert np.argmin(errors) == number and errors[number] < 20, "compressed, but the right one"


def test_names_mean_their_direction_and_none_means_h_bg(run: Path) -> None:
    rename(run / "discover", 3, "pose")
    by_name, by_index = walk(settings(run, ".png", direction="pose")), run / "index.png"
    walk(WalkConfig(**vars(settings(run, ".png")) | {"output": by_index}))
    assert by_name.read_bytes() == by_index.read_bytes()
    sheet = read_image(walk(settings(run, ".png", direction=None, start=0.0, end=6.0, frames=2)))
    signed = -load_directions(run / "discover").matrix[:, 4]
    assert np.abs(tile(sheet, 0, 1) - expected(run, 6.0, signed)[0]).max() <= 1


def test_classes_and_seed_choose_what_is_shown(run: Path) -> None:
    sheet = read_image(walk(settings(run, ".png", classes=("2",), start=0.0, end=1.0, frames=2)))
    vector = load_directions(run / "discover").matrix[:, 3]
    assert np.abs(tile(sheet, 1, 0) - expected(run, 0, vector, classes=(2,))[1]).max() <= 1
    other = read_image(walk(settings(run, ".png", classes=("2",), start=0.0, end=1.0, frames=2, seed=8)))
    assert np.abs(sheet.astype(int) - other).max() > 10


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"samples": 0}, "--samples is 0"),
        ({"frames": 1}, "--frames is 1"),
        ({"fps": 0}, "--fps is 0"),
        ({"fps": 60}, "from 1 to 50"),
        ({"scale": 0.0}, "--scale is 0.0"),
        ({"start": 2.0, "end": 2.0}, "has to be another number than --start"),
        ({"end": float("nan")}, "--end is nan"),
        ({"start": 1e39}, r"--start is 1e\+39, but has to be at most 1e\+06"),
        ({"direction": 6}, "no direction 6"),
        ({"direction": "pose"}, "No direction is called 'pose'"),
        ({"classes": ("zebra",)}, "no class 'zebra'"),
        ({"output": Path("walk.webm")}, r"\.gif, \.mp4 or \.png"),
    ],
)
def test_settings_out_of_range_are_refused(run: Path, others: dict[str, object], sentence: str) -> None:
    config = WalkConfig(**vars(settings(run, ".gif")) | others)
    with pytest.raises(UserError, match=sentence):
        walk(config)
    assert not config.output.exists()


def test_the_command_line_walks(run: Path) -> None:
    words = ["--direction", "0", "--start", "-2", "--end", "2", "--frames", "2", "--samples", "1", "--device", "cpu"]
    assert main(["walk", "--run", str(run), "--output", str(run / "a" / "walk.PNG"), *words]) == 0
    assert read_image(run / "a" / "walk.PNG").shape == (32, 66, 3)
