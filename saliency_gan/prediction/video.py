"""Videos, frame by frame, with maps that do not flicker."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.config import PredictConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.files import disk_error, partial_of
from saliency_gan.images import MAX_PIXELS, ImageArray
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.drawing import draw, find_threshold
from saliency_gan.prediction.jobs import VIDEO_RESULT, Job
from saliency_gan.prediction.refinement import refine
from saliency_gan.saliency.photo_predictor import PhotoPredictor, SaliencyMap

DEFAULT_RATE = 25.0
"""Frames a second, where a file does not say."""
MAX_RATE = 240.0

# A playlist in a video's clothes must not make FFmpeg open addresses; what it says of damaged files is said here.
# FFmpeg's level is read once, when OpenCV first needs it.
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "protocol_whitelist;file"
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def mark_video(job: Job, predictor: PhotoPredictor, background: Background, config: PredictConfig) -> None:
    """Writes one mp4 of the video's size and rate for every kind in `config.save`, without sound.

    Args:
        job: The video.
        predictor: What marks the frames.
        background: What comes behind cut-outs.
        config: The stage's settings.

    Raises:
        UserError: If the file is no video that can be read, or a kind cannot be a video.
        StageError: If a result cannot be written.
    """
    if "map16" in config.save:
        raise UserError(f"{job.path} is a video, which holds 8 bit: leave map16 out of --save, or the video.")
    if "cutout" in config.save and background.transparent:
        raise UserError(
            f"{job.path} is a video, which cannot be transparent: give a --background, say white, or --save without"
            " cutout."
        )
    with ExitStack() as stack:
        video = stack.enter_context(_opened(job.path))
        rate = video.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate <= MAX_RATE else DEFAULT_RATE
        expected = video.get(cv2.CAP_PROP_FRAME_COUNT)
        smoothing = Smoothing(config.smooth)
        kinds: tuple[str, ...] = config.save
        writers: dict[str, VideoFile] = {}
        progress = stack.enter_context(
            tqdm(desc=job.path.name, total=int(expected) if 0 < expected < 1e9 else None, unit="frame")
        )
        for frames in _batches(video, config.batch):
            if not writers:
                height, width = frames[0].shape[:2]
                for kind in kinds:
                    path = job.result(config.output, kind)
                    writers[kind] = stack.enter_context(VideoFile(path, rate, height, width))
            for frame, small in zip(
                frames, predictor.mark([predictor.squeeze(frame) for frame in frames]), strict=True
            ):
                smooth = smoothing.add(small)
                marked = refine(frame, smooth, find_threshold(smooth, config.threshold), config.refine)
                for kind, writer in writers.items():
                    writer.add(draw(kind, marked, background))
            progress.update(len(frames))
        if not writers:
            raise UserError(f"{job.path} holds no frame that can be read: it is empty, damaged or no video.")
        for writer in writers.values():
            writer.keep()


class Smoothing:
    """An exponential moving average of maps: m_t = share m_(t-1) + (1 - share) map_t, which begins with the first map.

    Args:
        share: Weight of what came before, 0 to below 1.
    """

    def __init__(self, share: float) -> None:
        self.share = np.float32(share)
        self._mean: SaliencyMap | None = None

    def add(self, saliency: SaliencyMap) -> SaliencyMap:
        """Takes the next map, float32 [h, w], and returns the average."""
        if self._mean is None:
            self._mean = saliency
        else:
            self._mean = self.share * self._mean + (1 - self.share) * saliency
        return self._mean


class VideoFile:
    """An mp4 file (MPEG-4 Part 2) that is there once it is whole. Use it as a context manager.

    Args:
        path: The file; its folder is created.
        rate: Frames a second.
        height: Rows of the frames; an odd number gets a row more, for only even sizes play everywhere.
        width: Columns of the frames, likewise.

    Raises:
        StageError: If the file cannot be written.
    """

    def __init__(self, path: Path, rate: float, height: int, width: int) -> None:
        self._path, self._count = path, 0
        self._bottom, self._right = height % 2, width % 2
        self._partial = partial_of(path, VIDEO_RESULT)  # OpenCV goes by suffix
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.unlink(missing_ok=True)
            self._partial.touch(exist_ok=False)  # never through a link
        except OSError as error:
            raise disk_error(path, error) from None
        size = width + self._right, height + self._bottom
        self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not self._writer.isOpened():
            self._partial.unlink(missing_ok=True)
            raise StageError(f"OpenCV cannot write {path} at {width} x {height}: shrink the video below 8192 pixels.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.release()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def add(self, frame: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """Appends uint8 [H, W] or RGB [H, W, 3]."""
        even = cv2.copyMakeBorder(frame, 0, self._bottom, 0, self._right, cv2.BORDER_REPLICATE)
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_GRAY2BGR if even.ndim == 2 else cv2.COLOR_RGB2BGR))
        self._count += 1

    def keep(self) -> None:
        """Ends the file and gives it its name.

        Raises:
            StageError: If the disk did not take all of it.
        """
        self._writer.release()
        # OpenCV keeps quiet about a disk that is full; what is written at the end says how many frames there are.
        written = cv2.VideoCapture(str(self._partial))
        count = written.get(cv2.CAP_PROP_FRAME_COUNT)
        written.release()
        if count != self._count:
            raise StageError(f"{self._path} could not be written whole: look whether the disk is full and try again.")
        try:
            self._partial.replace(self._path)
        except OSError as error:
            raise disk_error(self._path, error) from None


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    if not path.is_file():
        raise UserError(f"There is no video {path}.")
    # Of OpenCV's readers only this one: others take a name with % for many files, or open devices.
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise UserError(f"{path} cannot be read as a video: it is empty, damaged or of no known format.")
        if video.get(cv2.CAP_PROP_FRAME_WIDTH) * video.get(cv2.CAP_PROP_FRAME_HEIGHT) > MAX_PIXELS:
            raise UserError(f"{path} has frames of more than the {MAX_PIXELS:,} pixels allowed: shrink it first.")
        yield video
    finally:
        video.release()


def _batches(video: cv2.VideoCapture, size: int) -> Iterator[Sequence[ImageArray]]:
    batch: list[ImageArray] = []
    while True:
        there, frame = video.read()
        if there:
            batch.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]
        if batch and (not there or len(batch) == size):
            yield batch
            batch = []
        if not there:
            return
