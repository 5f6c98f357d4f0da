"""Which file each result in a folder was made of, so that no result stands for another file."""

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from saliency_gan.files import disk_error

FILE = ".sources.jsonl"


@dataclass(frozen=True)
class Source:
    """A file as it was when it was marked.

    Attributes:
        file: Its absolute path, links resolved.
        bytes: Its size.
        modified: When it was last written, in nanoseconds.
    """

    file: str
    bytes: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The file as it is now; one that cannot be read has size and time 0."""
        file, size, modified = os.path.realpath(path), 0, 0
        with suppress(OSError):
            status = Path(file).stat()
            size, modified = status.st_size, status.st_mtime_ns
        return cls(file, size, modified)

    def is_the_file(self, other: "Source") -> bool:
        """Whether both are of one file, be it changed or in another folder since."""
        moved = Path(self.file).name == Path(other.file).name
        return self.file == other.file or (moved and (self.bytes, self.modified) == (other.bytes, other.modified))


class Sources:
    """What the results in a folder were made of; kept there in a file of one line a result, the last one counts.

    Args:
        output: The folder of results.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._lock = threading.Lock()
        self._known: dict[str, Source] = {}
        with suppress(OSError):
            for line in (output / FILE).read_text(errors="surrogateescape").splitlines():
                with suppress(ValueError, TypeError, LookupError):  # a kill may have cut the last one
                    fields = json.loads(line)
                    result = fields.pop("result")
                    self._known[result] = Source(**fields)

    def __getitem__(self, result: str) -> Source | None:
        """What a result, such as deep/photo or deep/film.mp4, was made of; None if nobody knows."""
        return self._known.get(result)

    def add(self, result: str, source: Source) -> None:
        """Remembers what a result was made of, after it was written.

        Raises:
            StageError: If the file cannot be written.
        """
        with self._lock:
            if self._known.get(result) == source:
                return
            self._known[result] = source
            line = json.dumps({"result": result, **asdict(source)}) + "\n"
            try:
                # One write in append mode: lines of several processes do not mix.
                with open(self.output / FILE, "a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                raise disk_error(self.output / FILE, error) from None
