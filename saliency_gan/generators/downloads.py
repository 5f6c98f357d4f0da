"""Downloads public weights into a cache folder.

A download resumes after a break, tries one mirror after the other, and is checked. A file is complete or absent.
"""

import hashlib
import lzma
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tqdm import tqdm

from saliency_gan.errors import StageError, UserError
from saliency_gan.storage.files import cache_folder, disk_error, read_json, sha256_of, write_json
from saliency_gan.storage.locks import LOCK, open_lock

HASHES = "sha256.json"
"""File beside the downloads. It holds the sha256 of the first usable download where the publisher names none."""

TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for the next bytes."""

CHUNK = 1 << 16
"""Bytes per write."""


@dataclass(frozen=True)
class PublicFile:
    """A file that a generator needs.

    Attributes:
        name: File name in the cache folder.
        urls: Addresses, best first. An address that ends in `#NAME` is a zip or tar archive; only the file NAME is kept
            from it. Empty where nobody offers the file for download.
        sha256: Hex digest; None where the publisher names none.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None


def fetch(name: str, files: Sequence[PublicFile], instead: str = "give --weights PATH") -> Path:
    """Downloads files that are not in the cache, or whose sha256 there is not the known or pinned one.

    Args:
        name: What needs the files, for example a generator's name in the zoo. It is also the folder in the cache.
        files: The files that it needs.
        instead: What a user can do without the download, for the error message.

    Returns:
        The folder in the cache that holds all files.

    Raises:
        StageError: If no mirror gives a file, or the cache cannot be written.
    """
    folder = cache_folder() / name
    if absent(name, files):
        with _locked(folder):  # several processes may want the same files at once
            for file in absent(name, files):
                _download(name, file, folder / file.name, instead)
    return folder


def absent(name: str, files: Sequence[PublicFile]) -> list[PublicFile]:
    """Returns the files that are not in the cache, or whose sha256 there is not the known or pinned one."""
    folder = cache_folder() / name
    return [file for file in files if not _is_good(folder / file.name, _expected(file, folder))]


def pin(generator: str, files: Sequence[PublicFile]) -> None:
    """Stores and prints the sha256 of each file that has no known one. Later downloads must have the same sha256.

    The caller has read the files before, so the login page of a network portal is never pinned as the true file.
    """
    folder = cache_folder() / generator
    for file in files:
        if _expected(file, folder) is None:
            digest = sha256_of(folder / file.name)
            try:
                write_json(folder / HASHES, _pinned(folder) | {file.name: digest})
            except StageError as error:  # a cache that somebody else fills may be read-only
                print(f"{folder / file.name} has sha256 {digest}, which later loads do not check: {error}")
            else:
                print(f"{folder / file.name} has sha256 {digest}; no official one is known, later loads need the same.")


def _expected(file: PublicFile, folder: Path) -> str | None:
    return file.sha256 or _pinned(folder).get(file.name)


def _pinned(folder: Path) -> dict[str, str]:
    path = folder / HASHES
    pinned: Any = read_json(path) if path.exists() else {}
    if not isinstance(pinned, dict) or not all(isinstance(digest, str) for digest in pinned.values()):
        raise UserError(f"{path} does not hold one sha256 for each file: delete it, and the files are downloaded anew.")
    return pinned


def _is_good(path: Path, expected: str | None) -> bool:
    return path.is_file() and (expected is None or sha256_of(path) == expected)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    open_lock(folder).close()  # raises a clear error if the folder cannot be written
    with FileLock(folder / LOCK):
        yield


class _RefusedError(Exception):
    """A mirror did not send the right file."""


def _download(name: str, file: PublicFile, path: Path, instead: str) -> None:
    expected = _expected(file, path.parent)
    failures = [f"the copy there has another sha256 than {expected}"] if path.exists() else []
    for url in file.urls:
        try:
            return _download_from(url, path, expected)
        except (requests.RequestException, _RefusedError) as error:
            failures.append(f"{urlsplit(url).netloc}: {_reason(error)}")
        except OSError as error:
            raise disk_error(path, error) from None
    source = f"get it from {' or '.join(file.urls)} another way and" if file.urls else "get it from its makers and"
    raise StageError(
        f"{name} needs {file.name}, which could not be downloaded"
        f" ({'; '.join(failures) or 'it has no public address'}): {source} put it at {path}, or {instead}."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.RequestException):  # its text names urllib3's classes, then the cause in quotes
        return re.sub(r"[\"']\)+$", "", " ".join(str(error).split()).rpartition(": ")[2]) or type(error).__name__
    return str(error)


def _download_from(url: str, path: Path, expected: str | None) -> None:
    address, _, member = url.partition("#")
    stem = f".{path.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    partial = path.with_name(f"{stem}.partial")
    _transfer(address, partial, path.name)
    try:
        whole = _unpack(partial, member) if member else partial
        if expected not in (None, digest := sha256_of(whole)):
            raise _RefusedError(f"what it sent has sha256 {digest}, not {expected}")
    except _RefusedError:
        _remove(path.parent, f"{stem}.*")
        raise
    whole.replace(path)
    _remove(path.parent, f".{path.name}.*.partial")  # also removes those of other mirrors


def _remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


def _transfer(address: str, partial: Path, label: str) -> None:
    """Downloads the whole file into `partial`. After a break it tries again, as long as new bytes arrive."""
    most = -1
    while True:
        try:
            return _receive(address, partial, label)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            size = partial.stat().st_size if partial.exists() else 0
            if size <= max(most, 0):
                raise
            most = size


def _receive(address: str, partial: Path, label: str) -> None:
    """Requests the missing bytes once, or all bytes if the server cannot resume or has a new version of the file."""
    version = _version_of(partial)
    start = partial.stat().st_size if partial.exists() and version.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version.read_text()}
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return  # the partial file was already complete
            partial.unlink()
            return _receive(address, partial, label)
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _RefusedError("it sent a web page instead of the file")
        if response.status_code != requests.codes.partial_content:
            start = 0
            partial.unlink(missing_ok=True)
            _note_version(version, response)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            open(partial, "ab" if start else "wb") as file,
            tqdm(desc=label, initial=start, total=total, unit="B", unit_scale=True, unit_divisor=1024) as progress,
        ):
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and partial.stat().st_size != total:
            raise requests.ConnectionError(f"it sent {partial.stat().st_size} of {total} bytes")


def _version_of(partial: Path) -> Path:
    """Returns the path of the file that stores the server's version tag for `partial`."""
    return partial.with_suffix(".version.partial")


def _note_version(path: Path, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "")
    version = response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    if version:
        path.write_text(version)
    else:
        path.unlink(missing_ok=True)


def _unpack(archive: Path, member: str) -> Path:
    """Extracts the file named `member`, from any folder of the archive, and writes it beside the archive."""
    unpacked = archive.with_suffix(".unpacked.partial")
    try:
        with _open_member(archive, member) as source, open(unpacked, "wb") as target:
            shutil.copyfileobj(source, target, CHUNK)
            target.flush()
            os.fsync(target.fileno())
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        # RuntimeError: an encrypted zip, or one packed by a method that is not known
        raise _RefusedError(f"what it sent is no archive or a damaged one ({error})") from None
    return unpacked


@contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    def is_it(name: str) -> bool:
        return PurePosixPath(name).name == member

    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for name in filter(is_it, zipped.namelist()):
                with zipped.open(name) as source:
                    yield source
                return
    else:
        with tarfile.open(archive) as tarred:
            for entry in tarred:
                if entry.isfile() and is_it(entry.name):
                    content = tarred.extractfile(entry)
                    assert content is not None  # only a folder gives None
                    yield content
                    return
    raise _RefusedError(f"the archive it sent holds no {member}")
