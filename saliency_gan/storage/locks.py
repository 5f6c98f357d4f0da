"""Who works in a folder: one process, or one torchrun job, at a time; imports nothing heavy."""

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
        # Not flock: the workers of a process that was killed would keep its lock for as long as they live on.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


LOCK = ".lock"


@contextmanager
def working_in(folder: Path, setting: str) -> Iterator[None]:
    """Makes a folder, keeps it for this process or job until the block ends, and removes half-written files from it.

    Args:
        folder: The folder; its subfolders are left alone.
        setting: The flag that chooses another one.

    Raises:
        UserError: If another process works there.
        StageError: If the folder cannot be written.
    """
    join()
    if is_main():
        with lock_folder(folder, setting):
            try:
                remove_partials(folder, recursive=False)
                meet()
                yield
            finally:
                (folder / LOCK).unlink(missing_ok=True)  # the folder may be anybody's, and holds results alone
    else:
        meet()
        yield


def lock_folder(folder: Path, setting: str) -> BinaryIO:
    """Makes a folder and takes its lock. Closing the file that is returned gives it back, as does the process's end.

    Raises:
        UserError, StageError: As `working_in`; or if a file is where the folder should be.
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
    lock.close()  # whoever had it has removed it just now
    return lock_folder(folder, setting)


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders that hold nothing but a lock, which this process has, one after the other."""
    for folder in folders:
        with suppress(OSError):
            if not {path.name for path in folder.iterdir()} - {LOCK}:
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()


def open_lock(folder: Path) -> BinaryIO:
    """Makes a folder and opens the file in it that stands for its lock.

    Raises:
        StageError: If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Neither emptied nor opened through a link, which could lead to any file.
        return os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b")
    except OSError as error:
        raise disk_error(folder, error) from None
