"""Which files `predict` does, and what their results are called."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from saliency_gan.files import is_folder
from saliency_gan.images import IMAGE_SUFFIXES, find_files, pixels_of
from saliency_gan.prediction.drawing import PHOTO_SUFFIXES

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}
VIDEO_RESULT = ".mp4"

LONGEST_NAME = 251
"""Bytes of a result's name without its suffix; file systems allow 255 with it."""

BATCH_PIXELS = 24_000_000
"""A batch takes no more photos than have this many pixels together, which bounds the memory; a larger photo is done
alone, after everything before it is written."""


@dataclass(frozen=True)
class Job:
    """A file to read.

    Attributes:
        path: The file.
        name: Relative path, without suffix, of its results.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether the file's suffix is that of a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    def result(self, output: Path, kind: str) -> Path:
        """The file of one kind of result: output/KIND/NAME."""
        path = output / kind / self.name
        return path.with_name(path.name + (VIDEO_RESULT if self.is_video else PHOTO_SUFFIXES[kind]))

    def is_done(self, output: Path, kinds: Sequence[str]) -> bool:
        """Whether all results exist; they are written whole or not at all."""
        return all(self.result(output, kind).is_file() for kind in kinds)


def find_jobs(paths: Sequence[Path], output: Path, recursive: bool = True) -> tuple[list[Job], list[str]]:
    """Lists every photo and video once with a name that no other has.

    Files whose results would have the same name keep their suffix or get a number; hidden files, and results of an
    earlier call, are left out of folders. Links count as what they lead to, and their results are called like the link.

    Args:
        paths: Files, and folders of files.
        output: Where the results are going to be.
        recursive: Search folders with their subfolders.

    Returns:
        The jobs, in the order of `paths` and of names, and one sentence for every folder that gives none.
    """
    own = [_real(output / kind) for kind in PHOTO_SUFFIXES]
    found: dict[Path, tuple[Path, Path]] = {}
    problems = []
    for path in paths:
        if not is_folder(path):
            found.setdefault(_real(path), (path, Path(path.name)))
            continue
        files = find_files(path, IMAGE_SUFFIXES | VIDEO_SUFFIXES, recursive)
        if not files:
            problems.append(f"{path} holds no photo or video ({', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}).")
        for file in files:
            resolved = _real(file)
            if not any(resolved.is_relative_to(folder) for folder in own):
                found.setdefault(resolved, (file, file.relative_to(path)))
    names = _Names()
    jobs = [Job(path, relative) for path, relative in found.values()]
    return [replace(job, name=names.free(job.name, job.is_video)) for job in jobs], problems


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises where links go round in a circle


class Batch(NamedTuple):
    """Photos that are marked at once; `large` is whether it is a single one of more than BATCH_PIXELS."""

    jobs: list[Job]
    large: bool


def batches(jobs: Sequence[Job], size: int) -> Iterator[Batch]:
    """Cuts photos into batches of at most `size`, and of at most BATCH_PIXELS unless it is a single photo."""
    batch: list[Job] = []
    total = 0
    for job in jobs:
        pixels = pixels_of(job.path)
        if batch and (len(batch) == size or total + pixels > BATCH_PIXELS):
            yield Batch(batch, total > BATCH_PIXELS)
            batch, total = [], 0
        batch.append(job)
        total += pixels
    if batch:
        yield Batch(batch, total > BATCH_PIXELS)


class _Names:
    """Gives every result a name of its own, compared as file systems that ignore case do."""

    def __init__(self) -> None:
        self._taken: set[tuple[bool, str]] = set()
        self._numbers: defaultdict[tuple[bool, Path], Iterator[int]] = defaultdict(lambda: count(2))

    def free(self, name: Path, is_video: bool) -> Path:
        """The name without suffix, else with it, else with a number."""
        shortened = os.fsencode(name.name)[: LONGEST_NAME - len("-1234567")].decode(errors="ignore")
        numbered = (f"{shortened}-{number}" for number in self._numbers[is_video, name])
        for candidate in chain((name.stem, name.name), numbered):
            if not candidate.strip(".") or len(os.fsencode(candidate)) > LONGEST_NAME:
                continue
            full = name.with_name(candidate)
            key = is_video, str(full).casefold()
            if key not in self._taken:
                self._taken.add(key)
                return full
        raise AssertionError("there is no end of numbers")
