"""Atomic writes of files, and the cache folder; imports no heavy library."""

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
"""Largest size of a JSON file in bytes; the largest files that this package writes have a few million bytes."""

PARTIAL_FILES = ".*.[0-9]*.partial*"
"""Names of files that are still being written."""

LONGEST_NAME = 200
"""Longest name in bytes that leaves room for the prefix and suffix of a partial file; file systems allow 255."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file atomically; creates its folder.

    Raises:
        StageError: If the disk is full or the folder cannot be written.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        with open(partial, "xb") as file:  # "x" does not follow links
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
    """Writes UTF-8 as `write_bytes` does; bytes of file names that are not UTF-8 are escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def partial_of(path: Path) -> Path:
    """Temporary path of a file while this process writes it."""
    encoded = os.fsencode(path.name)
    stem = path.name if len(encoded) <= LONGEST_NAME else hashlib.sha256(encoded).hexdigest()
    return path.with_name(f".{stem}.{os.getpid()}.partial")


def remove_partials(folder: Path, recursive: bool = True) -> None:
    """Removes partial files of killed processes; no other process may be writing to the folder."""
    for partial in folder.rglob(PARTIAL_FILES) if recursive else folder.glob(PARTIAL_FILES):
        if partial.is_symlink() or partial.is_file():
            partial.unlink()


def is_plain(path: Path) -> bool:
    """Whether a path is a regular file or does not exist; False for folders, and for pipes and devices, which may never
    end."""
    try:
        return path.is_file() or not path.exists()
    except OSError:  # about the path itself, for example a name that is too long
        return True


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, or a link to one; False if this is unknown, for example if the name is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC); some systems store a letter with an accent as two characters."""
    return unicodedata.normalize("NFC", name)


def read_text(path: Path, at_most: int = LARGEST_TEXT) -> str:
    """Reads a UTF-8 file.

    Raises:
        OSError, ValueError: If it cannot be read, is not a plain file, has more than `at_most` bytes, or is not UTF-8.
    """
    if not is_plain(path):
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError(f"it has more than {at_most:,} bytes")
    return content.decode()


def is_address(place: str | Path | None) -> bool:
    """Whether `place` is an http or https address, not a path."""
    return str(place).startswith(("https://", "http://"))


def disk_error(path: Path, error: OSError) -> StageError:
    """Returns the error for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageError(f"The disk is full, so {path} was not written: free some space and run the command again.")
    return StageError(
        f"Could not write {path} ({error.strerror or error}): look whether its folder can be written, or choose another"
        " one."
    )


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON atomically."""
    # `write_text` escapes bytes that are not UTF-8 as JSON does, so reading gives the same file name again.
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: If the file is missing or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it to its end.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): run the stage that writes it again.") from None


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Folder for downloads and exports: $SALIENCY_GAN_CACHE, or the user's cache folder.

    Raises:
        UserError: If the user has no home folder, as in a container with a numeric user.
    """
    try:
        return Path(os.environ.get("SALIENCY_GAN_CACHE") or platformdirs.user_cache_path("saliency_gan"))
    except RuntimeError:
        raise UserError("This user has no home folder: set SALIENCY_GAN_CACHE to a folder for downloads.") from None
