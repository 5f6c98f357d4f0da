"""Locks of folders: one process, or one torchrun job, works in a folder at a time; imports no heavy library."""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from saliency_gan.compute.processes import is_main, join, meet
from saliency_gan.errors import UserError
from saliency_gan.storage.files import disk_error, remove_partials

if sys.platform == "win32":
    import msvcrt

    def _take(lock: BinaryIO) -> None:
        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(lock: BinaryIO) -> None:
        # Not flock: the worker processes of a killed process would keep its lock until they end.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


LOCK = ".lock"


@contextmanager
def working_in(folder: Path, setting: str) -> Iterator[None]:
    """Creates a folder, locks it for this process or job until the block ends, and removes partial files from it.

    Args:
        folder: The folder; its subfolders are not changed.
        setting: The flag that sets the folder, for errors.

    Raises:
        UserError: If another process works there.
        StageError: If the folder cannot be written.
    """
    join()
    if is_main():
        lock = lock_folder(folder, setting)
        try:
            remove_partials(folder, recursive=False)
            meet()
            yield
        finally:
            _release(lock, folder / LOCK)  # the folder is the user's and should hold only results
    else:
        meet()
        yield


def lock_folder(folder: Path, setting: str) -> BinaryIO:
    """Creates a folder and takes its lock. The lock is released when the returned file is closed or the process ends.

    Raises:
        UserError, StageError: As `working_in`; or if the folder's path is a file.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: give a folder with {setting}.")
    lock = open_lock(folder)
    try:
        _take(lock)
    except OSError as error:
        lock.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise disk_error(folder, error) from None
        raise UserError(
            f"Another process is working in {folder}: wait until it ends or choose another folder with {setting}."
        ) from None
    try:
        if os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat()):
            return lock
    except FileNotFoundError:
        pass
    lock.close()  # the last owner has just removed the lock file
    return lock_folder(folder, setting)


def _release(lock: BinaryIO, path: Path) -> None:
    """Releases a lock and removes its file, unless the file holds something, which is the user's then."""
    is_empty = os.fstat(lock.fileno()).st_size == 0
    if sys.platform == "win32":  # an open file cannot be removed there; elsewhere it has to be removed while it is held
        lock.close()
    if is_empty:
        with suppress(OSError):
            path.unlink()
    lock.close()


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes, one after the other, folders that hold nothing but a lock of this process."""
    for folder in folders:
        with suppress(OSError):
            if not {path.name for path in folder.iterdir()} - {LOCK}:
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()


def open_lock(folder: Path) -> BinaryIO:
    """Creates a folder and opens its lock file.

    Raises:
        StageError: If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The file is not truncated, and links are not followed, because they could point to any file.
        return os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b")
    except OSError as error:
        raise disk_error(folder, error) from None
