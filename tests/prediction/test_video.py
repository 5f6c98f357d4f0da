from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from saliency_gan.config import PredictConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.images import ImageArray
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.jobs import Job
from saliency_gan.prediction.video import Smoothing, mark_video, video_kinds
from saliency_gan.prediction.video_output import VideoFile
from saliency_gan.saliency.photo_predictor import PhotoPredictor
from saliency_gan.storage.provenance import Source

FRAMES, HEIGHT, WIDTH = 7, 45, 64


class Brightness:
    """Marks what is bright."""

    resolution = 32

    def maps(self, squares: ImageArray) -> NDArray[np.float32]:
        return squares.mean(axis=3, dtype=np.float32) / 255


PREDICTOR = PhotoPredictor(Brightness(), flip=False)


def frames() -> list[ImageArray]:
    """A white box that moves to the right on black."""
    video = []
    for index in range(FRAMES):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        frame[10:34, 4 + 6 * index : 24 + 6 * index] = 255
        video.append(frame)
    return video


def two_greys(height: int, width: int, edge: int, low: int = 100, high: int = 200) -> ImageArray:
    """A dark grey to the left of column `edge`, and a bright one from there on."""
    image = np.full((height, width, 3), low, np.uint8)
    image[:, edge:] = high
    return image


def write_video(path: Path, images: Sequence[ImageArray]) -> Path:
    with VideoFile(path, Fraction(1, 12), *images[0].shape[:2]) as file:
        for index, image in enumerate(images):
            file.add(image, index, 1)
        file.keep()
    return path


def read_video(path: Path) -> tuple[float, list[ImageArray]]:
    video = cv2.VideoCapture(str(path))
    rate, images = video.get(cv2.CAP_PROP_FPS), []
    while (read := video.read())[0]:
        images.append(read[1][:, :, ::-1])
    return rate, images


@pytest.fixture
def config(tmp_path: Path) -> PredictConfig:
    return PredictConfig(output=tmp_path / "out", save=("mask", "overlay"), smooth=0.0, batch=3)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(path := write_video(tmp_path / "box é.mp4", frames()), Path("deep/box"), Source.of(path))


def test_every_frame_is_marked_at_the_videos_size_and_rate(config: PredictConfig, job: Job) -> None:
    mark_video(job, PREDICTOR, Background("transparent"), config)
    rate, masks = read_video(config.output / "mask" / "deep" / "box.mp4")
    assert rate == 12 and len(masks) == FRAMES
    for mask, frame in zip(masks, frames(), strict=True):
        assert mask.shape == (HEIGHT + 1, WIDTH, 3)  # even sizes play everywhere
        assert ((mask[:HEIGHT, :, 0] > 127) == (frame[:, :, 0] > 127)).mean() > 0.95
    overlays = read_video(config.output / "overlay" / "deep" / "box.mp4")[1]
    box = overlays[3][14:30, 26:38].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(box, np.array((255, 126, 156)), atol=25)  # white tinted by 0.6
    assert sorted(path.name for path in config.output.rglob("*") if path.is_file()) == ["box.mp4", "box.mp4"]


def test_smoothing_is_a_moving_average() -> None:
    maps = np.random.default_rng(0).random((6, 3, 3), np.float32)
    smoothing = Smoothing(0.7)
    found = [smoothing.add(map_) for map_ in maps]
    for last in range(6):  # the recursion written out: weights 0.3 x 0.7^k, and 0.7^last for the first map
        weights = np.array([0.7 ** (last - k) * (0.3 if k else 1) for k in range(last + 1)])
        assert weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(found[last], np.tensordot(weights, maps[: last + 1], 1), atol=1e-6)


def test_what_moves_leaves_a_trail_when_smoothed(config: PredictConfig, job: Job) -> None:
    kept = {}
    for smooth in (0.0, 0.9):
        mark_video(job, PREDICTOR, Background("transparent"), replace(config, smooth=smooth, save=("map",)))
        kept[smooth] = read_video(config.output / "map" / "deep" / "box.mp4")[1][-1][22, 6].mean()
    assert kept[0.0] < 20 < 80 < kept[0.9]


@pytest.mark.parametrize(("threshold", "share"), [(0.3, 1.0), (0.5, 0.5), (0.9, 0.0)])
def test_masks_have_the_threshold_that_was_asked_for(config: PredictConfig, threshold: float, share: float) -> None:
    path = write_video(config.output / "greys.mp4", [two_greys(64, 64, edge=32)] * 2)  # which are .39 and .78
    config = replace(config, save=("mask",), threshold=threshold)
    mark_video(Job(path, Path("greys"), Source.of(path)), PREDICTOR, Background("transparent"), config)
    for mask in read_video(config.output / "mask" / "greys.mp4")[1]:
        assert (mask[:, :, 0] > 127).mean() == share


@pytest.mark.parametrize(("refine", "least", "most"), [("none", 0, 40), ("guided", 100, 200), ("solver", 230, 255)])
def test_frames_are_refined_as_was_asked_for(config: PredictConfig, refine: Any, least: int, most: int) -> None:
    edge = 124  # in the middle of a column of the network's
    path = write_video(config.output / "greys.mp4", [two_greys(64, 256, edge, low=0, high=255)] * 2)
    config = replace(config, save=("map",), refine=refine)
    mark_video(Job(path, Path("greys"), Source.of(path)), PREDICTOR, Background("transparent"), config)
    for found in read_video(config.output / "map" / "greys.mp4")[1]:
        step = found[:, edge, 0].astype(int) - found[:, edge - 1, 0]
        assert least <= step.min() and step.max() <= most


def test_cutouts_are_on_a_background(config: PredictConfig, job: Job) -> None:
    mark_video(job, PREDICTOR, Background("#0000ff"), replace(config, save=("cutout",)))
    images = read_video(config.output / "cutout" / "deep" / "box.mp4")[1]
    np.testing.assert_allclose(images[0][3, 50], (0, 0, 255), atol=30)
    np.testing.assert_allclose(images[0][22, 14], (255, 255, 255), atol=30)


@pytest.mark.parametrize(
    ("save", "background", "kinds"),
    [
        (("map", "map16"), "transparent", ("map",)),
        (("cutout", "mask"), "transparent", ("mask",)),
        (("cutout", "map16"), "#0000ff", ("cutout",)),
        (("cutout", "map16"), "transparent", ()),
    ],
)
def test_kinds_that_a_video_can_hold(config: PredictConfig, save: tuple, background: str, kinds: tuple) -> None:
    assert video_kinds(replace(config, save=save), Background(background)) == kinds


@pytest.mark.parametrize("damage", ["empty", "text", "playlist", "cut", "no frames", "missing"])
def test_damaged_videos_give_one_sentence(
    config: PredictConfig, job: Job, damage: str, capfd: pytest.CaptureFixture
) -> None:
    whole = job.path.read_bytes()
    playlist = b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    contents = {"empty": b"", "text": b"no video", "playlist": playlist, "cut": whole[: len(whole) // 2]}
    if damage == "no frames":
        with VideoFile(job.path, Fraction(1, 12), 32, 32) as file:
            file.keep()
    elif damage == "missing":
        job.path.unlink()
    else:
        job.path.write_bytes(contents[damage])
    with pytest.raises(UserError, match="box") as error:
        mark_video(job, PREDICTOR, Background("transparent"), config)
    assert str(error.value).count(".") <= 2 and "\n" not in str(error.value)
    assert not config.output.exists()
    assert "moov" not in capfd.readouterr().err


def test_a_video_that_fails_on_the_way_leaves_nothing(config: PredictConfig, job: Job) -> None:
    class Failing(Brightness):
        calls = 0

        def maps(self, squares: ImageArray) -> NDArray[np.float32]:
            self.calls += 1
            if self.calls > 1:
                raise KeyboardInterrupt
            return super().maps(squares)

    with pytest.raises(KeyboardInterrupt):
        mark_video(job, PhotoPredictor(Failing(), flip=False), Background("transparent"), config)
    assert [path for path in config.output.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_named(config: PredictConfig, job: Job, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StageError, match="Could not write"):
        mark_video(job, PREDICTOR, Background("transparent"), config)
