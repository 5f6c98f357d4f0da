"""Searches folders: images that are read, images that are not, results of earlier runs, folders that cannot be
opened."""

import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from saliency_gan.compute.processes import is_main
from saliency_gan.errors import UserError, one_line
from saliency_gan.images.formats import IMAGE_SUFFIXES, Unread, suffix_of, unread_kind
from saliency_gan.storage.files import composed, is_folder
from saliency_gan.storage.provenance import FILE, Sources

NAMED = 5
"""Number of files that a message about many files names."""


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        files: Files with the requested suffixes, sorted; hidden files are left out.
        unread: Images of formats that are not read.
        results: Folders of results of earlier runs, which are not searched.
        closed: One sentence for each folder that cannot be opened.
        links: Links to folders, which are not followed.
    """

    files: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    def remarks(self) -> list[str]:
        """One sentence for each kind of file or folder that is left out."""
        kinds: defaultdict[Unread, list[Path]] = defaultdict(list)
        for path in self.unread:
            if kind := unread_kind(path):
                kinds[kind].append(path)
        remarks = [
            f"{len(paths)} {kind.titles if len(paths) > 1 else kind.title} skipped"
            f" ({some(path.name for path in paths)}): {kind.advice}."
            for kind, paths in kinds.items()
        ]
        if self.results:
            remarks.append(
                f"Results of earlier runs are left out ({some(map(str, self.results))}): name such a folder itself to"
                " have it read."
            )
        if self.links:
            remarks.append(
                f"Links to folders are not followed ({some(map(str, self.links))}): name such a folder itself to"
                " have it read."
            )
        return remarks


def search(folder: Path, suffixes: Collection[str], recursive: bool) -> Found:
    """Finds files by their suffixes, which are given in lower case.

    Links to files are followed, links to folders are not. Pipes and broken links count as files; reading them raises an
    error that says what they are.
    """
    found = Found()
    for parent, subfolders, names in os.walk(folder, onerror=lambda error: found.closed.append(_closed(error))):
        here = Path(parent)
        results = Sources(here).claimed.intersection(subfolders) if FILE in names else set()
        found.results += [here / name for name in sorted(results)]
        found.links += [here / name for name in sorted(subfolders) if recursive and (here / name).is_symlink()]
        subfolders[:] = [name for name in subfolders if recursive and name not in results]
        for name in names:
            if name.startswith("."):
                continue
            if unread_kind(name):
                found.unread.append(here / name)
            elif suffix_of(name) in suffixes:
                found.files.append(here / name)
    found.files.sort()
    found.unread.sort()
    return found


def find_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES, recursive: bool = False) -> list[Path]:
    """Returns the files that `search` finds, which may be none; prints to stderr what is left out.

    Raises:
        UserError: If the folder, or a subfolder that is searched, cannot be opened.
    """
    found = search(folder, suffixes, recursive)
    if found.closed:
        raise UserError(found.closed[0])
    if is_main():
        for remark in found.remarks():
            print(f"saliency-gan: {one_line(remark)}", file=sys.stderr)
    return found.files


def find_images(folder: Path, recursive: bool = False, setting: str = "--images") -> list[Path]:
    """Finds images as `find_files` does.

    Args:
        folder: The folder.
        recursive: Search its subfolders, too.
        setting: The flag that sets the folder, for errors.

    Raises:
        UserError: If the folder does not exist or holds no image, or if it or a subfolder cannot be opened.
    """
    if not is_folder(folder):
        raise UserError(f"There is no folder {folder}: give {setting} the folder that holds the images.")
    files = find_files(folder, recursive=recursive)
    if not files:
        raise UserError(f"{folder} holds no image of a kind that is read, such as JPEG, PNG or WebP.")
    return files


def by_name(folder: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Relative path without suffix, in Unicode's composed form -> file of a folder.

    Raises:
        UserError: If two files have the same path without suffix.
    """
    names: dict[str, Path] = {}
    for path in files:
        name = composed(str(path.relative_to(folder).with_suffix("")))
        if name in names:
            raise UserError(
                f"{names[name]} and {path} differ only in their suffix, and it is not clear which one is"
                " meant: move one of them away."
            )
        names[name] = path
    return names


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def _closed(error: OSError) -> str:
    return (
        f"{error.filename} cannot be opened ({error.strerror or error}), so nothing in it is done: change its"
        " permissions or leave it out."
    )
