"""Records the source file of each result in a folder, so that a result is never taken for that of another file."""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from saliency_gan.errors import UserError
from saliency_gan.storage.files import composed, disk_error, is_plain, write_text

FILE = ".sources.jsonl"
NO_RECORD = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What lines raise that are cut, or that this module did not write."""
LARGEST_FILE = 2**30
"""Largest size of this file in bytes that is read: a few million results."""


@dataclass(frozen=True)
class Source:
    """The state of a file when it was marked.

    Attributes:
        file: Its absolute path, links resolved.
        bytes: Its size in bytes.
        modified: When it was last written, in nanoseconds.
    """

    file: str
    bytes: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The state of a file now; size and time are 0 if it cannot be read."""
        file, size, modified = os.path.realpath(path), 0, 0
        with suppress(OSError):
            status = Path(file).stat()
            size, modified = status.st_size, status.st_mtime_ns
        return cls(file, size, modified)

    def is_the_file(self, now: "Source") -> bool:
        """Whether `now` is a later state of this file, which may have been changed, or moved to another folder."""
        if self.file == now.file:
            return True
        return _looks(self) == _looks(now) and not os.path.lexists(self.file)


class Sources:
    """The sources of the results in a folder. They are stored in that folder, one line per result; the last line of a
    result counts.

    Args:
        output: The folder of results.
        recipe: Takes a result and its kind, and returns a digest of everything but the file that it depends on: the
            model and the settings.
    """

    def __init__(self, output: Path, recipe: Callable[[str, str], str] = lambda _result, _kind: "") -> None:
        self.output, self._recipe = output, recipe
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Source, dict[str, str]]] = {}
        self._claimed: set[str] = set()
        self._of: defaultdict[object, dict[str, None]] = defaultdict(dict)  # a file -> results that were made from it
        lines = _lines_of(output / FILE)
        self._lines = len(lines)
        # A killed process may leave a last line that is cut. The next line must not be appended to it.
        self._before_next = "" if not lines or lines[-1].endswith("\n") else "\n"
        for line in lines:
            with suppress(*NO_RECORD):
                self._take(json.loads(line))

    def claim(self, kinds: Collection[str]) -> None:
        """Records that results of these kinds are written here from now on, before the first one is.

        Raises:
            UserError: If the folder of a new kind already has files. Somebody else made them, such as ground-truth
                masks in a data set, and results with their names would replace them.
            StageError: If the folder cannot be written.
        """
        for kind in sorted(set(kinds) - self.claimed):
            if any(map(holds_data, (self.output / kind).rglob("*"))):
                raise UserError(
                    f"{self.output / kind} holds files that predict did not write, and results could replace them:"
                    " choose another folder with --output, or move them away."
                )
        if new := sorted(set(kinds) - self._claimed):
            self._claimed.update(new)
            self._append({"claimed": new})
        if self._lines > 2 * len(self._known) + 100:
            lines = [{"claimed": sorted(self._claimed)}]
            lines += [_line(result, *known) for result, known in self._known.items()]
            write_text(self.output / FILE, "".join(json.dumps(line) + "\n" for line in lines))

    @property
    def claimed(self) -> frozenset[str]:
        """The kinds whose folders belong to predict."""
        return self.kinds.union(self._claimed)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of results in the folder; each kind has the name of its subfolder."""
        return frozenset().union(*(kinds for _, kinds in self._known.values()))

    def __getitem__(self, result: str) -> Source | None:
        """The source of a result, such as deep/photo or deep/film.mp4; None if it is unknown."""
        return self._known[result][0] if result in self._known else None

    def results_of(self, source: Source) -> list[str]:
        """The results of a file, which may have been changed or moved since they were made."""
        found = self._of[source.file] | self._of[_looks(source)]
        return [result for result in found if self._known[result][0].is_the_file(source)]

    def tell(self, result: str, source: Source, kinds: Collection[str]) -> bool:
        """Whether all given kinds of a result, such as map and mask, were made from a file in the given state, and by
        the present recipe."""
        known, made = self._known.get(result, (None, {}))
        same = known is not None and known.is_the_file(source) and _looks(known) == _looks(source)
        return same and all(made.get(kind) == self._recipe(result, kind) for kind in kinds)

    def begin(self, result: str, source: Source, kinds: Collection[str]) -> None:
        """Records the source of a result before these kinds of it are written. So a file without a record is never one
        of predict's, and what a killed process was about to replace is never taken for what it was.

        Raises:
            StageError: If the file cannot be written.
        """
        with self._lock:
            before, made = self._known.get(result, (None, {}))
            left = {kind: recipe for kind, recipe in made.items() if kind not in kinds} if before == source else {}
            self._record(result, source, left)

    def add(self, result: str, source: Source, kinds: Collection[str]) -> None:
        """Records the source of some kinds of a result, after they were written.

        Raises:
            StageError: If the file cannot be written.
        """
        with self._lock:
            before, made = self._known.get(result, (None, {}))
            others = made if before == source else {}  # else the other kinds are outdated
            self._record(result, source, others | {kind: self._recipe(result, kind) for kind in kinds})

    def _record(self, result: str, source: Source, made: dict[str, str]) -> None:
        if self._known.get(result) != (source, made):
            self._set(result, source, made)
            self._append(_line(result, source, made))

    def _take(self, fields: dict[str, Any]) -> None:
        """Takes a line of the file. Lines that this class did not write are left out, or raise an error."""
        claimed = fields.get("claimed", ())
        self._claimed.update(name for name in claimed if isinstance(name, str) and Path(name).name == name)
        result, kinds = fields["result"], fields["kinds"]
        made = kinds if isinstance(kinds, dict) else dict.fromkeys(kinds, "")  # earlier versions: a list
        source = Source(fields["file"], fields["bytes"], fields["modified"])
        texts, numbers = (result, source.file, *made, *made.values()), (source.bytes, source.modified)
        if all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers):
            self._set(result, source, made)

    def _set(self, result: str, source: Source, made: dict[str, str]) -> None:
        self._known[result] = source, made
        self._of[source.file][result] = self._of[_looks(source)][result] = None

    def _append(self, fields: dict[str, Any]) -> None:
        try:
            # One write in append mode: lines of several processes do not mix.
            with open(self.output / FILE, "a", encoding="utf-8") as file:
                file.write(f"{self._before_next}{json.dumps(fields)}\n")
            self._before_next = ""
        except OSError as error:
            raise disk_error(self.output / FILE, error) from None


def _lines_of(path: Path) -> list[str]:
    """Lines of a file with their ends; none if it cannot be read or is no plain file."""
    with suppress(OSError):
        if is_plain(path):
            with open(path, "rb") as file:
                return file.read(LARGEST_FILE).decode(errors="replace").splitlines(keepends=True)
    return []


def _line(result: str, source: Source, made: dict[str, str]) -> dict[str, Any]:
    return {"result": result, "kinds": made, **asdict(source)}


def _looks(source: Source) -> tuple[str, int, int]:
    return composed(Path(source.file).name), source.bytes, source.modified


def holds_data(path: Path) -> bool:
    """Whether replacing a path would lose data: it is a file, and no link to data that has another name."""
    return path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1
