"""Files that are whole or not there, and where the cache is; imports nothing heavy."""

import errno
import hashlib
import json
import os
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from saliency_gan.errors import StageError, UserError

LARGEST_TEXT = 64 * 2**20
"""Bytes of JSON that are read at the most; the largest that this package writes have a few million."""

PARTIAL_FILES = ".*.[0-9]*.partial*"
"""What files are called while they are being written."""

LONGEST_NAME = 200
"""Bytes of a name that leave room for the affixes of a partial file; file systems allow 255."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file whole or not at all, creating its folder.

    Raises:
        StageError: If the disk is full or the folder cannot be written.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        with open(partial, "xb") as file:  # never through a link
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise disk_error(path, error) from None
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 as `write_bytes` does; a byte of a file's name that is no UTF-8 becomes an escape."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def partial_of(path: Path, suffix: str = "") -> Path:
    """Where a file is while this process writes it; `suffix` is for libraries that go by one."""
    encoded = os.fsencode(path.name)
    stem = path.name if len(encoded) <= LONGEST_NAME else hashlib.sha256(encoded).hexdigest()
    return path.with_name(f".{stem}.{os.getpid()}.partial{suffix}")


def remove_partials(folder: Path, recursive: bool = True) -> None:
    """Removes what killed processes left half written; nobody else may be writing in the folder."""
    for partial in folder.rglob(PARTIAL_FILES) if recursive else folder.glob(PARTIAL_FILES):
        if partial.is_symlink() or partial.is_file():
            partial.unlink()


def is_plain(path: Path) -> bool:
    """Whether a path is a file or nothing: no folder, and no pipe or device that could be read for ever."""
    try:
        return path.is_file() or not path.exists()
    except OSError:  # of the path itself, such as a name too long
        return True


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, or a link to one; False where nobody can tell, such as of a name too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC); some systems write one letter with an accent as two characters."""
    return unicodedata.normalize("NFC", name)


def read_text(path: Path, at_most: int = LARGEST_TEXT) -> str:
    """Reads a file of UTF-8.

    Raises:
        OSError, ValueError: If it cannot be read, is no plain file, larger than `at_most` bytes, or no UTF-8.
    """
    if not is_plain(path):
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError(f"it has more than {at_most:,} bytes")
    return content.decode()


def is_address(place: str | Path | None) -> bool:
    """Whether something that may be a path is an http or https address."""
    return str(place).startswith(("https://", "http://"))


def disk_error(path: Path, error: OSError) -> StageError:
    """The sentence for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageError(f"The disk is full, so {path} was not written: free some space and run the command again.")
    return StageError(
        f"Could not write {path} ({error.strerror or error}): look whether its folder can be written, or choose another"
        " one."
    )


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON atomically."""
    # The escape of a byte that is no UTF-8 is JSON's own, so the name of a file comes back as it was.
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: If the file is missing or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it first.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): run the stage that writes it again.") from None


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where downloads and exports are kept: $SALIENCY_GAN_CACHE, or the user's cache folder."""
    return Path(os.environ.get("SALIENCY_GAN_CACHE") or platformdirs.user_cache_path("saliency_gan"))
