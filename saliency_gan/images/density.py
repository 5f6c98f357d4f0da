"""Dots per inch: reads them from image files and writes them."""

import math
import struct
import zlib

from PIL import Image

Density = tuple[float, float]
"""Dots per inch, horizontal and vertical."""

_LARGEST = 65_535
"""Largest value that JPEG can store."""
_INCH = 0.0254
"""An inch in metres."""


def density_of(image: Image.Image) -> Density | None:
    """The density in an image file; None if it is missing or not plausible."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    sensible = all(math.isfinite(value) and 1 <= value <= _LARGEST for value in (across, down))
    return (across, down) if sensible else None


def with_density(data: bytes, density: Density) -> bytes:
    """Writes dots per inch into the header of a PNG or JPEG file that has none."""
    if data.startswith(b"\x89PNG"):
        per_metre = (round(value / _INCH) for value in density)
        chunk = b"pHYs" + struct.pack(">IIB", *per_metre, 1)
        return data[:33] + struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    if data[6:11] == b"JFIF\0":
        return data[:13] + struct.pack(">BHH", 1, *map(round, density)) + data[18:]
    return data
