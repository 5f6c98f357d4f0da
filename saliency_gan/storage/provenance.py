"""Records the source file of each result in a folder, so that a result is never taken for that of another file."""

import json
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from saliency_gan.errors import UserError
from saliency_gan.storage.files import composed, disk_error

FILE = ".sources.jsonl"


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
        alike = composed(Path(self.file).name) == composed(Path(now.file).name)
        alike = alike and (self.bytes, self.modified) == (now.bytes, now.modified)
        return alike and not os.path.lexists(self.file)


class Sources:
    """The sources of the results in a folder. They are stored in that folder, one line per result; the last line of a
    result counts.

    Args:
        output: The folder of results.
        recipe: Digest of everything but the file that results depend on: the model and the settings.
    """

    def __init__(self, output: Path, recipe: str = "") -> None:
        self.output, self.recipe = output, recipe
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Source, dict[str, str]]] = {}
        self._claimed: set[str] = set()
        with suppress(OSError):
            for line in (output / FILE).read_text(errors="surrogateescape").splitlines():
                with suppress(
                    ValueError, TypeError, LookupError, AttributeError
                ):  # a killed process may leave an incomplete last line
                    fields = json.loads(line)
                    self._claimed.update(fields.get("claimed", ()))
                    result, kinds = fields.pop("result"), fields.pop("kinds")
                    made = kinds if isinstance(kinds, dict) else dict.fromkeys(kinds, "")  # earlier versions: a list
                    self._known[result] = Source(**fields), made

    def claim(self, kinds: Collection[str]) -> None:
        """Records that results of these kinds are written here from now on, before the first one is.

        Raises:
            UserError: If the folder of a new kind already has files. Somebody else made them, such as ground-truth
                masks in a data set, and results with their names would replace them.
            StageError: If the folder cannot be written.
        """
        new = sorted(set(kinds) - self.claimed)
        for kind in new:
            if any(map(holds_data, (self.output / kind).rglob("*"))):
                raise UserError(
                    f"{self.output / kind} holds files that predict did not write, and results could replace them:"
                    " choose another folder with --output, or move them away."
                )
        if new:
            self._claimed.update(new)
            self._append({"claimed": new})

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

    def tell(self, result: str, source: Source, kinds: Collection[str]) -> bool:
        """Whether all given kinds of a result, such as map and mask, were made from a file in the given state, and by
        the present recipe."""
        known, made = self._known.get(result, (None, {}))
        return known == source and all(made.get(kind) == self.recipe for kind in kinds)

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
            self._record(result, source, others | dict.fromkeys(kinds, self.recipe))

    def _record(self, result: str, source: Source, made: dict[str, str]) -> None:
        if self._known.get(result) != (source, made):
            self._known[result] = source, made
            self._append({"result": result, "kinds": made, **asdict(source)})

    def _append(self, fields: dict[str, Any]) -> None:
        try:
            # One write in append mode: lines of several processes do not mix.
            with open(self.output / FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(fields) + "\n")
        except OSError as error:
            raise disk_error(self.output / FILE, error) from None


def holds_data(path: Path) -> bool:
    """Whether replacing a path would lose data: it is a file, and no link to data that has another name."""
    return path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1
