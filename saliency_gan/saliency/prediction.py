"""`predict`: saliency maps, masks, cut-outs and overlays of photos and folders of photos."""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.config import PredictConfig
from saliency_gan.devices import pick_device
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray, find_images, read_image, write_image
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.predictor import Predictor, SaliencyMap, stretch

SUFFIXES = {"map": ".png", "mask": ".png", "cutout": ".png", "overlay": ".jpg"}
"""What can be saved of a photo, each in a folder of its own, and the format."""

OVERLAY_COLOUR = np.array((255, 40, 90), np.float32)
CUTOUT_RAMP = 8.0
"""A cut-out's opacity rises from 0 to 1 while saliency rises by 1 / 8 around the threshold, which softens its edge."""


def predict(config: PredictConfig, paths: Sequence[Path]) -> int:
    """Marks photos and writes `output/KIND/NAME.png` for every kind in `config.save`, at the photos' own sizes.

    A folder is searched with its subfolders, whose tree is kept. Photos whose results would have the same name keep
    their suffix or get a number. A file that cannot be used is named on stderr and skipped.

    Args:
        config: The stage's settings.
        paths: Photos, and folders of photos.

    Returns:
        How many of the files failed.

    Raises:
        UserError: If a setting or the model cannot be used.
        StageError: If a result cannot be written.
    """
    _check_settings(config)
    model = load_model(config.weights)
    predictor = Predictor(model, pick_device(config.device), config.resolution, config.scales, config.flip)
    jobs, problems = _find_jobs(paths, config.output)
    for problem in problems:
        _complain(problem)
    failures = len(problems)
    with (
        ThreadPoolExecutor(os.cpu_count(), "read") as reading,
        ThreadPoolExecutor(os.cpu_count(), "write") as writing,
        tqdm(desc="predict", total=len(jobs), unit="photo") as progress,
    ):
        written: list[Future[None]] = []
        for batch in _read_ahead(reading, jobs, predictor, config.batch):
            photos = [photo for photo in batch if isinstance(photo, _Photo)]
            for photo in batch:
                if not isinstance(photo, _Photo):
                    _complain(photo)
            failures += len(batch) - len(photos)
            maps = predictor.mark([photo.squares for photo in photos]) if photos else ()
            for result in written:
                result.result()
            written = [writing.submit(_write, photo, map_, config) for photo, map_ in zip(photos, maps, strict=True)]
            progress.update(len(batch))
        for result in written:
            result.result()
    print(f"{len(jobs) + len(problems) - failures} photos marked in {config.output}")
    return failures


@dataclass(frozen=True)
class _Job:
    """A file to read, and the relative path, without suffix, of its results."""

    path: Path
    name: Path


@dataclass(frozen=True)
class _Photo:
    """A decoded photo, uint8 [H, W, 3], and the squares of it that the model sees."""

    job: _Job
    image: ImageArray
    squares: tuple[ImageArray, ...]


def _find_jobs(paths: Sequence[Path], output: Path) -> tuple[list[_Job], list[str]]:
    """Lists every file once with a name that no other has; also one sentence for every path that gives none."""
    own = [(output / kind).resolve() for kind in SUFFIXES]
    found: dict[Path, tuple[Path, Path]] = {}
    problems = []
    for path in paths:
        if not path.is_dir():
            found.setdefault(path.resolve(), (path, Path(path.name)))
            continue
        try:
            for file in find_images(path, recursive=True):
                if not any(file.resolve().is_relative_to(folder) for folder in own):  # results of an earlier call
                    found.setdefault(file.resolve(), (file, file.relative_to(path)))
        except UserError as error:
            problems.append(str(error))
    taken: set[str] = set()
    return [_Job(path, _free_name(name, taken)) for path, name in found.values()], problems


def _free_name(name: Path, taken: set[str]) -> Path:
    """The name without suffix, else with it, else with a number; compared as file systems that ignore case do."""
    numbered = (f"{name.name}-{number}" for number in range(2, len(taken) + 3))
    for candidate in (name.stem, name.name, *numbered):
        full = name.with_name(candidate)
        if str(full).casefold() not in taken:
            taken.add(str(full).casefold())
            return full
    raise AssertionError("there are more candidates than taken names")


def _read_ahead(pool: Executor, jobs: Sequence[_Job], predictor: Predictor, size: int) -> Iterator[list[_Photo | str]]:
    """Decodes one batch in threads while the caller works on the one before; a sentence stands for an unusable file."""

    def read(job: _Job) -> _Photo | str:
        try:
            image = read_image(job.path)
        except UserError as error:
            return str(error)
        return _Photo(job, image, predictor.squeeze(image))

    pending: list[Future[_Photo | str]] = []
    for start in range(0, len(jobs), size):
        upcoming = [pool.submit(read, job) for job in jobs[start : start + size]]
        if pending:
            yield [future.result() for future in pending]
        pending = upcoming
    if pending:
        yield [future.result() for future in pending]


def _write(photo: _Photo, small: SaliencyMap, config: PredictConfig) -> None:
    saliency = stretch(small, photo.image.shape[:2])
    for kind in config.save:
        path = config.output / kind / photo.job.name
        write_image(path.with_name(path.name + SUFFIXES[kind]), render(kind, photo.image, saliency, config.threshold))


def render(kind: str, image: ImageArray, saliency: SaliencyMap, threshold: float) -> NDArray[np.uint8]:
    """Draws what is saved of a photo.

    Args:
        kind: map, mask, cutout or overlay.
        image: uint8 [H, W, 3].
        saliency: Float [H, W] in [0, 1].
        threshold: Saliency from which a pixel belongs to the mask.

    Returns:
        map: uint8 [H, W], saliency times 255. mask: uint8 [H, W] of 0 and 255. cutout: uint8 [H, W, 4], the photo with
        an opacity that is 0.5 at the threshold. overlay: uint8 [H, W, 3], the photo tinted where it is salient.
    """
    if kind == "map":
        return _to_bytes(saliency)
    if kind == "mask":
        return np.where(saliency >= threshold, 255, 0).astype(np.uint8)
    if kind == "cutout":
        opacity = ((saliency - threshold) * CUTOUT_RAMP + 0.5).clip(0, 1)
        return np.dstack([image, _to_bytes(opacity)])
    tint = saliency[:, :, None] * 0.6
    return _to_bytes((image * (1 - tint) + OVERLAY_COLOUR * tint) / 255)


def _to_bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return (values * 255).round().astype(np.uint8)


def _complain(problem: str) -> None:
    tqdm.write(f"saliency-gan: {problem}", file=sys.stderr)


def _check_settings(config: PredictConfig) -> None:
    if config.batch < 1:
        raise UserError(f"batch is {config.batch}, but has to be 1 or more.")
    if not 0 <= config.threshold <= 1:
        raise UserError(
            f"threshold is {config.threshold}, but saliency lies between 0 and 1: choose one there, say 0.5."
        )
    unknown = [kind for kind in config.save if kind not in SUFFIXES]
    if unknown or not config.save:
        raise UserError(f"save is {','.join(config.save) or 'empty'}, but has to be some of {', '.join(SUFFIXES)}.")
