"""Scores maps in separate processes, while the main process predicts the next maps.

Like `metrics`, this module imports nothing that imports torch, because every process would load it.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.compute.processes import end_with_parent
from saliency_gan.evaluation.baselines import BASELINES, Image
from saliency_gan.evaluation.metrics import ImageScores, Map, score_image

Scores = dict[str, ImageScores]
IMAGES_WAITING = 8
"""Images that may wait for each process."""
PIXELS_WAITING = 25_000_000
"""Pixels of their masks that may wait for each process. Each of them takes about eight bytes."""


def score_maps(
    maps: Mapping[str, Map], truth: NDArray[np.bool_], photo: Image | None = None, baselines: bool = False
) -> Scores:
    """Scores several maps, and the baselines if asked for, against one mask.

    Args:
        maps: Name -> saliency, float [H', W'] in [0, 1] or uint8 [H', W']; resized to the mask's size.
        truth: The mask, bool [H, W].
        photo: RGB, uint8 [H'', W'', 3]; the baselines need it.
        baselines: Score every one of BASELINES on the photo as well.
    """
    found = {name: score_image(fit(saliency, truth.shape), truth) for name, saliency in maps.items()}
    if baselines and photo is not None:
        found |= {name: score_image(fit(predict(photo), truth.shape), truth) for name, predict in BASELINES.items()}
    return found


def fit(saliency: Map, size: tuple[int, ...]) -> Map:
    """Resizes a map bilinearly to (height, width), if it has another size."""
    if saliency.shape == tuple(size):
        return saliency
    resized = cv2.resize(saliency, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized if resized.dtype == np.uint8 else np.clip(resized, 0, 1)  # type: ignore[return-value]


class ScoringPool:
    """Runs `score_maps` in order. Use it as a context manager.

    Args:
        workers: Number of processes; 0 scores in a thread of this process.
    """

    def __init__(self, workers: int) -> None:
        self._waiting: deque[tuple[int, Future[Scores]]] = deque()
        self._most_images, self._most_pixels = (most * max(1, workers) for most in (IMAGES_WAITING, PIXELS_WAITING))
        self._executor: Executor = (
            ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
            if workers
            else ThreadPoolExecutor(1)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._executor.shutdown(cancel_futures=kind is not None)

    def submit(
        self, maps: Mapping[str, Map], truth: NDArray[np.bool_], photo: Image | None, baselines: bool
    ) -> Iterator[Scores]:
        """Queues one image. If too many images or pixels wait, yields the oldest results."""
        future = self._executor.submit(score_maps, maps, truth, photo if baselines else None, baselines)
        self._waiting.append((truth.size, future))
        while len(self._waiting) > self._most_images or self._pixels() > self._most_pixels:
            yield self._next()

    def finish(self) -> Iterator[Scores]:
        """Yields the remaining results."""
        while self._waiting:
            yield self._next()

    def _pixels(self) -> int:
        return sum(pixels for pixels, _ in self._waiting)

    def _next(self) -> Scores:
        return self._waiting.popleft()[1].result()


def _start_worker() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    cv2.setNumThreads(1)
