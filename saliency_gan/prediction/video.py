"""Marks videos frame by frame; maps are averaged over time, so that they do not flicker."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.compute.processes import cores, local_world_size
from saliency_gan.config import PredictConfig
from saliency_gan.errors import UserError
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.drawing import draw, find_threshold
from saliency_gan.prediction.jobs import Job
from saliency_gan.prediction.refinement import refine
from saliency_gan.prediction.video_input import Frame, VideoInput, opened
from saliency_gan.prediction.video_output import VideoFile
from saliency_gan.saliency.photo_predictor import PhotoPredictor, SaliencyMap


def mark_video(job: Job, predictor: PhotoPredictor, background: Background, config: PredictConfig) -> list[str]:
    """Writes one mp4 with the video's size, frame times and sound for each kind of `video_kinds`.

    Args:
        job: The video.
        predictor: Marks the frames.
        background: The background of cut-outs.
        config: The stage's settings.

    Returns:
        One sentence for each thing that the results lack because the file is damaged.

    Raises:
        UserError: If the file is not a readable video.
        StageError: If a result cannot be written.
    """
    smoothing = Smoothing(config.smooth)
    results: dict[str, VideoFile] = {}
    with ExitStack() as stack:
        video = stack.enter_context(opened(job.path))
        pool = stack.enter_context(ThreadPoolExecutor(max(1, cores() // local_world_size()), "frames"))
        progress = stack.enter_context(tqdm(desc=job.path.name, total=video.expected, unit="frame"))
        kinds = video_kinds(config, background)
        drawing = partial(_drawn, kinds=kinds, background=background, config=config)
        for frames, sound in video.batches(config.batch):
            if not results:
                for kind in kinds:
                    results[kind] = stack.enter_context(_result(job, kind, config, video, frames[0]))
            for piece in sound:
                for result in results.values():
                    result.add_sound(piece)
            maps = predictor.mark([predictor.squeeze(frame.image) for frame in frames]) if frames else ()
            smooth = [smoothing.add(small) for small in maps]
            drawn = pool.map(drawing, frames, smooth)
            for frame, pictures in zip(frames, drawn, strict=True):
                for result, picture in zip(results.values(), pictures, strict=True):
                    result.add(picture, frame.start, frame.duration)
            progress.update(len(frames))
        if not results:
            raise UserError(f"{job.path} holds no frame that can be read: it is empty, damaged or no video.")
        for result in results.values():
            result.keep()
        return video.problems()


def _drawn(
    frame: Frame, saliency: SaliencyMap, *, kinds: tuple[str, ...], background: Background, config: PredictConfig
) -> list[NDArray[np.uint8] | NDArray[np.uint16]]:
    """Refines the map of a frame and draws its results."""
    marked = refine(frame.image, saliency, find_threshold(saliency, config.threshold), config.refine)
    return [draw(kind, marked, background) for kind in kinds]


def video_kinds(config: PredictConfig, background: Background) -> tuple[str, ...]:
    """The kinds in `config.save` that a video can have: its pixels have 8 bits and no opacity."""
    unfit = {"map16", "cutout"} if background.transparent else {"map16"}
    return tuple(kind for kind in config.save if kind not in unfit)


def _result(job: Job, kind: str, config: PredictConfig, video: VideoInput, first: Frame) -> VideoFile:
    height, width = first.image.shape[:2]
    path = job.result(config.folder, kind)
    return VideoFile(path, video.time_base, height, width, first.pixel_aspect, video.sounds)


class Smoothing:
    """An exponential moving average of maps: m_t = share m_(t-1) + (1 - share) map_t, which starts with the first map.

    Args:
        share: Weight of the earlier maps, from 0 to below 1.
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
