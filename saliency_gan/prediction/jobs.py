"""Which files `predict` does, and what their results are called."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from saliency_gan.images import IMAGE_SUFFIXES
from saliency_gan.prediction.drawing import PHOTO_SUFFIXES

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}
VIDEO_RESULT = ".mp4"

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
    earlier call, are left out of folders.

    Args:
        paths: Files, and folders of files.
        output: Where the results are going to be.
        recursive: Search folders with their subfolders.

    Returns:
        The jobs, in the order of `paths` and of names, and one sentence for every folder that gives none.
    """
    own = [(output / kind).resolve() for kind in PHOTO_SUFFIXES]
    found: dict[Path, tuple[Path, Path]] = {}
    problems = []
    for path in paths:
        if not path.is_dir():
            found.setdefault(path.resolve(), (path, Path(path.name)))
            continue
        files = _files_in(path, recursive)
        if not files:
            problems.append(f"{path} holds no photo or video ({', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}).")
        for file in files:
            resolved = file.resolve()
            if not any(resolved.is_relative_to(folder) for folder in own):
                found.setdefault(resolved, (file, file.relative_to(path)))
    taken: set[tuple[bool, str]] = set()
    jobs = []
    for path, relative in found.values():
        job = Job(path, relative)
        jobs.append(Job(path, _free_name(relative, job.is_video, taken)))
    return jobs, problems


class Batch(NamedTuple):
    """Photos that are marked at once; `large` is whether it is a single one of more than BATCH_PIXELS."""

    jobs: list[Job]
    large: bool


def batches(jobs: Sequence[Job], size: int) -> Iterator[Batch]:
    """Cuts photos into batches of at most `size`, and of at most BATCH_PIXELS unless it is a single photo."""
    batch: list[Job] = []
    total = 0
    for job in jobs:
        pixels = _pixels(job.path)
        if batch and (len(batch) == size or total + pixels > BATCH_PIXELS):
            yield Batch(batch, total > BATCH_PIXELS)
            batch, total = [], 0
        batch.append(job)
        total += pixels
    if batch:
        yield Batch(batch, total > BATCH_PIXELS)


def _files_in(folder: Path, recursive: bool) -> list[Path]:
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(
        path
        for path in (folder.rglob("*") if recursive else folder.glob("*"))
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def _free_name(name: Path, is_video: bool, taken: set[tuple[bool, str]]) -> Path:
    """The name without suffix, else with it, else with a number; compared as file systems that ignore case do."""
    numbered = (f"{name.name}-{number}" for number in range(2, len(taken) + 3))
    for candidate in (name.stem, name.name, *numbered):
        full = name.with_name(candidate)
        key = is_video, str(full).casefold()
        if key not in taken:
            taken.add(key)
            return full
    raise AssertionError("there are more candidates than taken names")


def _pixels(path: Path) -> int:
    """Pixels that an image's header promises; 0 where it cannot be read, which decoding is going to explain."""
    try:
        with Image.open(path) as image:
            return image.width * image.height
    except Exception:  # Pillow's readers raise many kinds for damaged files
        return 0
