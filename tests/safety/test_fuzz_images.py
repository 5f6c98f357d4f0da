"""900 broken images through `read_image`, and hand-made ones: 850 edited, 40 of random bytes, 12 by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from saliency_gan.images.formats import has_heif
from saliency_gan.images.reading import read_image, read_mask
from tests.jobs import run_job
from tests.profiles import display_p3
from tests.safety.fuzzing import broken, fuzzed, survives
from tests.safety.peak import growth_of_reading


def _encoded(kind: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (24, 20, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    return file.getvalue()


VALID = [
    _encoded(kind, mode)
    for kind, mode in (
        ("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "1"),
        ("WEBP", "RGBA"), ("TIFF", "RGB"), ("TIFF", "F"), ("TIFF", "LAB"), ("BMP", "RGB"), ("GIF", "P"), ("PPM", "RGB"),
        ("AVIF", "RGBA"), ("JPEG2000", "RGB"), ("JPEG2000", "LA"), ("TIFF", "I"),
        *([("HEIF", "RGB")] if has_heif() else []),
    )
]  # fmt: skip
TGA = [_encoded("TGA", mode) for mode in ("RGBA", "P", "L")]
"""Which is read by its suffix."""
PROFILES = [display_p3(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
SUFFIXES = st.sampled_from(
    [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif", ".ppm", ".pdf", ".jp2", ".avif", ".heic", ".dng", ".tga", ""]
)


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([_chunk(b"IHDR", header), *chunks, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


HOSTILE = {
    "nothing": b"",
    "a bomb": _png(60_000, 60_000, _chunk(b"IDAT", zlib.compress(bytes(1 << 20)))),
    "sides of 2^31": _png(2**31 - 1, 2**31 - 1),
    "no pixels": _png(0, 5),
    "a bomb of text": _png(4, 4, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20)))),
    "a BMP of 2^31 rows": b"BM" + struct.pack("<IIIIiiHHIIIIII", 60, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, *[0] * 6),
    "a GIF of 65,535^2": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;",
    "a PPM of 10^9 columns": b"P6 1000000000 1000000000 255\n",
    "a TGA of 65,535^2": b"\0\0\2" + bytes(9) + b"\xff\xff\xff\xff\x18\0",
    "a JPEG 2000 of 2^31 columns": b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH", 41, 0, 2**31 - 1, 9, *[0] * 6, 1),
    "Ghostscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n%%EOF\n",
    "a vector graphic": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
}


@fuzzed(650)
@given(st.sampled_from(VALID).flatmap(lambda content: broken(content, 64)), SUFFIXES)
def test_edited_images(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(content)

    def read() -> None:
        image = read_image(path)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size

    survives(read, tmp_path)


@fuzzed(100)
@given(st.sampled_from(TGA).flatmap(lambda content: broken(content, 18)))
def test_edited_tga_images(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.tga"
    path.write_bytes(content)
    survives(lambda: read_image(path), tmp_path)
    survives(lambda: read_mask(path), tmp_path)


@fuzzed(100)
@given(st.sampled_from(PROFILES).flatmap(lambda content: broken(content, 200)))
def test_edited_profiles(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (3, 2), "red").save(path, icc_profile=content)
    assert survives(lambda: read_image(path), tmp_path)


@fuzzed(40)
@given(st.binary(max_size=300), SUFFIXES)
def test_random_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(content)
    survives(lambda: read_image(path), tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / ("photo.tga" if "TGA" in name else "photo.png")
    path.write_bytes(HOSTILE[name])
    read = survives(lambda: read_image(path), tmp_path)
    assert not read or name == "a bomb of text"  # which Pillow may skip
    assert run_job(growth_of_reading, path, processes=1)[0] < 300_000_000


def test_the_memory_of_a_large_image_is_seen(tmp_path: Path) -> None:
    Image.new("RGB", (5000, 5000)).save(tmp_path / "large.bmp")
    assert run_job(growth_of_reading, tmp_path / "large.bmp", processes=1)[0] > 5000 * 5000 * 3
