"""The files that `predict` processes, and the names of their results."""

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
from saliency_gan.storage.provenance import Source, Sources, holds_data

VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv",
}  # fmt: skip
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
VIDEO_RESULT = ".mp4"

STREAM = Path("-")
"""Stands for standard input as a photo, and for standard output as the output."""
STREAM_NAME = Path("stdin")
"""Name of the results of a photo from standard input."""

LONGEST_NAME = 251
"""Longest name of a result in bytes, without its suffix; file systems allow 255 with it."""

BATCH_PIXELS = 24_000_000
"""Largest total number of pixels in a batch, which limits the memory. A larger photo is processed alone, after all
results before it are written."""


def check_paths(paths: Sequence[Path]) -> None:
    """Refuses a call if none of its files and folders exists.

    Raises:
        UserError: If none exists; the message names the first one.
    """
    if paths and not any(path == STREAM or os.path.lexists(path) for path in paths):
        raise UserError(f"There is no {paths[0]}: give photos, videos, or folders of them.")


@dataclass(frozen=True)
class Job:
    """A file to read.

    Attributes:
        path: The file, or STREAM.
        name: Relative path, without suffix, of its results.
        source: The state of the file when it was found.
    """

    path: Path
    name: Path
    source: Source

    @property
    def is_video(self) -> bool:
        """Whether the file's suffix is that of a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    def result(self, output: Path, kind: str) -> Path:
        """Path of one kind of result: output/KIND/NAME with its suffix."""
        path = output / kind / self.name
        return path.with_name(path.name + (VIDEO_RESULT if self.is_video else PHOTO_SUFFIXES[kind]))

    @property
    def key(self) -> str:
        """The name of its results in `Sources`."""
        return _key(self.name, self.is_video)

    def is_done(self, sources: Sources, kinds: Sequence[str]) -> bool:
        """Whether all results exist and were made from the file's present state. Results are written atomically."""
        exist = all(self.result(sources.output, kind).is_file() for kind in kinds)
        return exist and self.path != STREAM and sources.tell(self.key, self.source, kinds)


def _key(name: Path, is_video: bool) -> str:
    return str(name) + VIDEO_RESULT * is_video


class Listed(NamedTuple):
    """What `find_jobs` found.

    Attributes:
        jobs: Photos and videos, in the order of the paths given and of names.
        problems: One sentence for each folder that has no photo or video, or cannot be opened, and for each file whose
            results have no place.
        remarks: One sentence for each kind of file or folder that is left out.
        unread: Number of photos in formats that are not read.
    """

    jobs: list[Job]
    problems: list[str]
    remarks: list[str]
    unread: int


def find_jobs(paths: Sequence[Path], sources: Sources, recursive: bool = True) -> Listed:
    """Lists every photo and video once, each with a unique name.

    A name keeps the file's suffix if the file's folder has another file with the same stem. If the name belongs to the
    results of another file, or to a file or folder that predict did not write, it gets a number. So names do not depend
    on the other files of the call. In folders, hidden files, results of earlier calls, and photos in formats that are
    not read are left out. Links are followed, and their results have the name of the link.

    Args:
        paths: Files, folders of files, and STREAM.
        sources: Sources of the output folder.
        recursive: Search folders with their subfolders.
    """
    own = [_real(sources.output / kind) for kind in sources.claimed]
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
        left_out.links += held.links
        if not held.files and not held.closed:
            problems.append(f"{path} holds no photo or video of a kind that is read, such as JPEG, PNG, HEIC or MP4.")
        for file in filterfalse(_is_typescript, held.files):
            resolved = _real(file)
            if not any(resolved.is_relative_to(folder) for folder in own):
                found.setdefault(resolved, (file, file.relative_to(path)))
    jobs = [Job(path, relative, Source.of(path)) for path, relative in found.values()]
    places = [sources.output / kind for kind in sources.claimed]
    blocked = {folder: _file_at(folder, places) for folder in dict.fromkeys(job.name.parent for job in jobs)}
    problems += [
        f"{job.path} is left out, because its results need a folder where the file {blocking} is: move that file away,"
        " or choose another --output."
        for job in jobs
        if (blocking := blocked[job.name.parent])
    ]
    jobs = [job for job in jobs if not blocked[job.name.parent]]
    names = _Names(sources, jobs)
    named = [replace(job, name=names.free(job)) for job in jobs]
    return Listed(named, problems, left_out.remarks(), len(left_out.unread))


def _file_at(folder: Path, places: Sequence[Path]) -> Path | None:
    """A file that is where a folder of results, or one of its parents, is needed in one of `places`."""
    needed = (place / part for place in places for part in (folder, *folder.parents))
    return next((path for path in needed if path.is_file()), None)


def _is_typescript(path: Path) -> bool:
    """Whether a file has the suffix .ts but is not an MPEG transport stream, which begins with the letter G."""
    if path.suffix.lower() != ".ts":
        return False
    try:
        with open(path, "rb") as file:
            return file.read(1) not in (b"G", b"")
    except OSError:
        return False  # reading it later reports why it cannot be read


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error if links form a circle


class Batch(NamedTuple):
    """Photos that are marked at once; `large` is true for a single photo of more than BATCH_PIXELS pixels."""

    jobs: list[Job]
    large: bool


def batches(jobs: Sequence[Job], size: int) -> Iterator[Batch]:
    """Splits photos into batches of at most `size` photos and BATCH_PIXELS pixels; a single photo may have more
    pixels."""
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
    """Gives every result a unique name. Upper and lower case count as the same, because some file systems ignore
    case."""

    def __init__(self, sources: Sources, jobs: Sequence[Job]) -> None:
        self._sources, self._claimed = sources, sources.claimed
        self._taken: set[tuple[bool, str]] = set()
        self._folders = {str(folder).casefold() for job in jobs for folder in job.name.parents}
        self._numbers: defaultdict[tuple[bool, Path], Iterator[int]] = defaultdict(lambda: count(2))
        self._siblings: dict[Path, Counter[tuple[bool, str]]] = {}

    def free(self, job: Job) -> Path:
        """The first free name: without suffix, else with it, else with a number."""
        name = job.name
        shortened = os.fsencode(name.name)[: LONGEST_NAME - len("-1234567")].decode(errors="ignore")
        numbered = (f"{shortened}-{number}" for number in self._numbers[job.is_video, name])
        owned = (candidate for candidate in self._owned(job) if candidate.startswith(f"{shortened}-"))
        for candidate in chain((name.name,) if self._has_twin(job) else (name.stem, name.name), owned, numbered):
            if not candidate.strip(".") or len(os.fsencode(candidate)) > LONGEST_NAME:
                continue
            if not job.is_video and candidate.casefold().endswith(VIDEO_RESULT):
                continue  # in `Sources`, it is the name of a video's results
            full = name.with_name(candidate)
            key = job.is_video, str(full).casefold()
            if key not in self._taken and self._is_free(replace(job, name=full)):
                self._taken.add(key)
                return full
        raise AssertionError("there is no end of numbers")

    def _owned(self, job: Job) -> Iterator[str]:
        """Names in the job's folder that results of its file have already."""
        for key in self._sources.results_of(job.source):
            if key.endswith(VIDEO_RESULT) == job.is_video:
                path = Path(key.removesuffix(VIDEO_RESULT) if job.is_video else key)
                if path.parent == job.name.parent:
                    yield path.name

    def _is_free(self, job: Job) -> bool:
        """Whether results of a file can have a name: no other file's results have it, and nothing else does."""
        if owner := self._sources[job.key]:
            return owner.is_the_file(job.source)
        for kind in PHOTO_SUFFIXES:
            folder = self._sources.output / kind
            result = job.result(self._sources.output, kind)
            if str(result.relative_to(folder)).casefold() in self._folders:
                return False
            if kind in self._claimed and (result.is_dir() or holds_data(result)):
                return False
        return True

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
