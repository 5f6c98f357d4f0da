"""Which files `predict` does, and what their results are called."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, filterfalse
from pathlib import Path
from typing import NamedTuple

from saliency_gan.errors import UserError
from saliency_gan.images.folders import Found, search
from saliency_gan.images.formats import IMAGE_SUFFIXES
from saliency_gan.images.reading import pixels_of
from saliency_gan.prediction.drawing import PHOTO_SUFFIXES
from saliency_gan.storage.files import is_folder
from saliency_gan.storage.provenance import Source, Sources

VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv",
}  # fmt: skip
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
VIDEO_RESULT = ".mp4"

STREAM = Path("-")
"""Standard input as a photo, and standard output as the place for a result."""
STREAM_NAME = Path("stdin")
"""What the results of a photo from standard input are called."""

LONGEST_NAME = 251
"""Bytes of a result's name without its suffix; file systems allow 255 with it."""

BATCH_PIXELS = 24_000_000
"""A batch takes no more photos than have this many pixels together, which bounds the memory; a larger photo is done
alone, after everything before it is written."""


def check_paths(paths: Sequence[Path]) -> None:
    """Refuses a call none of whose files and folders exists.

    Raises:
        UserError: With the first of them.
    """
    if paths and not any(path == STREAM or os.path.lexists(path) for path in paths):
        raise UserError(f"There is no {paths[0]}: give photos, videos, or folders of them.")


@dataclass(frozen=True)
class Job:
    """A file to read.

    Attributes:
        path: The file, or STREAM.
        name: Relative path, without suffix, of its results.
        source: The file as it was when it was found.
    """

    path: Path
    name: Path
    source: Source

    @property
    def is_video(self) -> bool:
        """Whether the file's suffix is that of a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    def result(self, output: Path, kind: str) -> Path:
        """The file of one kind of result: output/KIND/NAME."""
        path = output / kind / self.name
        return path.with_name(path.name + (VIDEO_RESULT if self.is_video else PHOTO_SUFFIXES[kind]))

    @property
    def key(self) -> str:
        """What its results are called in `Sources`."""
        return _key(self.name, self.is_video)

    def is_done(self, sources: Sources, kinds: Sequence[str]) -> bool:
        """Whether all results exist and are of this file as it is; they are written whole or not at all."""
        exist = all(self.result(sources.output, kind).is_file() for kind in kinds)
        return exist and self.path != STREAM and sources.tell(self.key, self.source, kinds)


def _key(name: Path, is_video: bool) -> str:
    return str(name) + VIDEO_RESULT * is_video


class Listed(NamedTuple):
    """What `find_jobs` found.

    Attributes:
        jobs: Photos and videos, in the order of the paths given and of names.
        problems: One sentence for every folder that gives none, or cannot be opened.
        remarks: One sentence for every kind of thing that is left out.
        unread: How many photos of formats that are not read there are.
    """

    jobs: list[Job]
    problems: list[str]
    remarks: list[str]
    unread: int


def find_jobs(paths: Sequence[Path], sources: Sources, recursive: bool = True) -> Listed:
    """Lists every photo and video once with a name that no other has.

    A file keeps its suffix where the folder that it is in has another one with the same stem. Where the name belongs to
    the results of another file, it gets a number. So nothing depends on which other files are in the call. Hidden
    files, results of earlier calls, and photos of formats that are not read are left out of folders. Links count as
    what they lead to, and their results are called like the link.

    Args:
        paths: Files, folders of files, and STREAM.
        sources: Of the folder where the results are going to be.
        recursive: Search folders with their subfolders.
    """
    own = [_real(sources.output / kind) for kind in PHOTO_SUFFIXES]
    found: dict[Path, tuple[Path, Path]] = {}
    problems, left_out = [], Found()
    for path in paths:
        if path == STREAM or not is_folder(path):
            found.setdefault(_real(path), (path, STREAM_NAME if path == STREAM else Path(path.name)))
            continue
        held = search(path, SUFFIXES, recursive)
        problems += held.closed
        left_out.unread += held.unread
        left_out.results += held.results
        if not held.files and not held.closed:
            problems.append(f"{path} holds no photo or video of a kind that is read, such as JPEG, PNG, HEIC or MP4.")
        for file in filterfalse(_is_typescript, held.files):
            resolved = _real(file)
            if not any(resolved.is_relative_to(folder) for folder in own):
                found.setdefault(resolved, (file, file.relative_to(path)))
    names = _Names(sources)
    jobs = [Job(path, relative, Source.of(path)) for path, relative in found.values()]
    named = [replace(job, name=names.free(job)) for job in jobs]
    return Listed(named, problems, left_out.remarks(), len(left_out.unread))


def _is_typescript(path: Path) -> bool:
    """Whether a file shares only its suffix with MPEG transport streams, which begin with the letter G."""
    if path.suffix.lower() != ".ts":
        return False
    try:
        with open(path, "rb") as file:
            return file.read(1) not in (b"G", b"")
    except OSError:
        return False  # reading it is going to say why it cannot be read


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

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._taken: set[tuple[bool, str]] = set()
        self._numbers: defaultdict[tuple[bool, Path], Iterator[int]] = defaultdict(lambda: count(2))
        self._siblings: dict[Path, Counter[tuple[bool, str]]] = {}

    def free(self, job: Job) -> Path:
        """The name without suffix, else with it, else with a number."""
        name = job.name
        shortened = os.fsencode(name.name)[: LONGEST_NAME - len("-1234567")].decode(errors="ignore")
        numbered = (f"{shortened}-{number}" for number in self._numbers[job.is_video, name])
        for candidate in chain((name.name,) if self._has_twin(job) else (name.stem, name.name), numbered):
            if not candidate.strip(".") or len(os.fsencode(candidate)) > LONGEST_NAME:
                continue
            full = name.with_name(candidate)
            key = job.is_video, str(full).casefold()
            owner = self._sources[_key(full, job.is_video)]
            if key not in self._taken and (owner is None or owner.is_the_file(job.source)):
                self._taken.add(key)
                return full
        raise AssertionError("there is no end of numbers")

    def _has_twin(self, job: Job) -> bool:
        """Whether the file's folder has another photo, or for a video another video, with the same stem."""
        folder = job.path.parent
        if folder not in self._siblings:
            held = search(folder, SUFFIXES, recursive=False)
            files = [*held.files, *(path for path in held.unread if path.suffix.lower() in SUFFIXES)]
            self._siblings[folder] = Counter(map(_stem, files))
        return self._siblings[folder][_stem(job.path)] > 1


def _stem(path: Path) -> tuple[bool, str]:
    return path.suffix.lower() in VIDEO_SUFFIXES, path.stem.casefold()
