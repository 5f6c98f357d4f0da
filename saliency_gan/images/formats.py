"""Formats of images: which are read, by what, and what to do about the others."""

import os
from dataclasses import dataclass
from functools import cache

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")
"""What Pillow is allowed to take a file for, whatever its suffix; its other readers are older, and one of them starts
Ghostscript."""

TGA_SUFFIX = ".tga"
"""Nothing in a TGA file says that it is one, so here the suffix does."""

HEIF_SUFFIXES = {".heic", ".heif", ".hif"}
IMAGE_SUFFIXES = HEIF_SUFFIXES | {
    ".apng", ".avif", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", TGA_SUFFIX, ".tif", ".tiff", ".webp",
}  # fmt: skip
"""What images that are read are called."""


@dataclass(frozen=True)
class Unread:
    """A kind of image that is not read.

    Attributes:
        title: Of one of them.
        titles: Of several.
        suffixes: What they are called.
        advice: What to do.
    """

    title: str
    titles: str
    suffixes: frozenset[str]
    advice: str


# Pillow takes many raw photos for TIFF files, and finds a thumbnail in them.
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
    """The kind of a file that is an image by its name and is not read; None for all other files."""
    kind = _KINDS.get(suffix_of(name))
    return None if kind is HEIF and has_heif() else kind


def pillow_formats(name: object) -> tuple[str, ...]:
    """What Pillow may take a file of this name for."""
    heif = ("HEIF",) if has_heif() else ()
    tga = ("TGA",) if suffix_of(name) == TGA_SUFFIX else ()
    return (*FORMATS, *heif, *tga)


def suffix_of(name: object) -> str:
    """The suffix of a file's name in small letters; as `Path.suffix`, which takes longer."""
    return os.path.splitext(str(name))[1].lower()  # noqa: PTH122


@cache
def has_heif() -> bool:
    """Whether pillow-heif is installed, which teaches Pillow to read HEIC photos."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True
