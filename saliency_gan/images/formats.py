"""Image formats: which ones are read, and what to do about the others."""

import os
from dataclasses import dataclass
from functools import cache

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")
"""Formats in which Pillow may read a file, whatever its suffix. Its other readers are older, and one of them starts
Ghostscript."""

TGA_SUFFIX = ".tga"
"""A TGA file has no signature, so it is recognised by its suffix."""

HEIF_SUFFIXES = {".heic", ".heif", ".hif"}
IMAGE_SUFFIXES = HEIF_SUFFIXES | {
    ".apng", ".avif", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", TGA_SUFFIX, ".tif", ".tiff", ".webp",
}  # fmt: skip
"""Suffixes of the images that are read."""


@dataclass(frozen=True)
class Unread:
    """A kind of image that is not read.

    Attributes:
        title: Name of one such image in messages.
        titles: Name of several of them.
        suffixes: Their suffixes.
        advice: What the user should do.
    """

    title: str
    titles: str
    suffixes: frozenset[str]
    advice: str


# Pillow reads many raw photos as TIFF files, and finds only a thumbnail in them.
RAW = Unread(
    "raw photo",
    "raw photos",
    frozenset({
        ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mrw", ".nef", ".nrw",
        ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
    }),
    "develop first, say with darktable, and save as JPEG or TIFF",
)  # fmt: skip
HEIF = Unread(
    "HEIC photo",
    "HEIC photos",
    frozenset(HEIF_SUFFIXES),
    "install what reads such, pip install 'saliency-gan[heif]'",
)
OTHER = Unread(
    "picture of another format",
    "pictures of other formats",
    frozenset({".dds", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".jxr", ".pcx", ".psd", ".qoi", ".svg", ".xcf"}),
    "save as PNG, JPEG or TIFF first",
)
_KINDS = {suffix: kind for kind in (RAW, HEIF, OTHER) for suffix in kind.suffixes}


def unread_kind(name: object) -> Unread | None:
    """The kind of an image that is not read, by the suffix of its name; None for all other files."""
    kind = _KINDS.get(suffix_of(name))
    return None if kind is HEIF and has_heif() else kind


def pillow_formats(name: object) -> tuple[str, ...]:
    """Formats in which Pillow may read a file of this name."""
    heif = ("HEIF",) if has_heif() else ()
    tga = ("TGA",) if suffix_of(name) == TGA_SUFFIX else ()
    return (*FORMATS, *heif, *tga)


def suffix_of(name: object) -> str:
    """The suffix of a file's name in lower case; faster than `Path.suffix`."""
    return os.path.splitext(str(name))[1].lower()  # noqa: PTH122


@cache
def has_heif() -> bool:
    """Whether pillow-heif is installed; if so, registers it, so that Pillow reads HEIC photos."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True
