"""Formats that are read as other programs wrote them, and those that are not."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saliency_gan.images import formats
from saliency_gan.images.reading import MAX_PIXELS, FirstFrameWarning, UnreadableImageError, decode_image, read_image
from tests.profiles import display_p3, p3_as_srgb

RAMP = np.linspace(0, 255, 32 * 48 * 3).reshape(32, 48, 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "format_", "worst"),
    [
        ("jfif", "JPEG", 8), ("jpe", "JPEG", 8), ("avif", "AVIF", 8), ("jp2", "JPEG2000", 0), ("j2k", "JPEG2000", 0),
        ("tga", "TGA", 0), ("apng", "PNG", 0), ("pnm", "PPM", 0), ("mpo", "MPO", 8),
    ],
)  # fmt: skip
def test_formats_come_back(tmp_path: Path, suffix: str, format_: str, worst: int) -> None:
    assert f".{suffix}" in formats.IMAGE_SUFFIXES
    quality = {"quality": 95} if worst else {}
    Image.fromarray(RAMP).save(tmp_path / f"x.{suffix}", format_, **quality)
    assert np.abs(read_image(tmp_path / f"x.{suffix}").astype(int) - RAMP).max() <= worst


def test_a_phone_s_heic_photo_comes_back_upright_and_in_its_colours(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    flat = np.full((40, 64, 3), (230, 60, 40), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(flat).save(tmp_path / "x.heic", quality=100, icc_profile=display_p3(), exif=exif.tobytes())
    read = read_image(tmp_path / "x.heic")
    assert read.shape == (64, 40, 3) and np.abs(read - p3_as_srgb(flat[0, 0])).max() <= 4
    assert formats.unread_kind("x.heic") is None


def test_heic_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "has_heif", lambda: False)
    (tmp_path / "x.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UnreadableImageError, match=r"x\.HEIC is a HEIC photo, .*pip install 'saliency-gan\[heif\]'"):
        read_image(tmp_path / "x.HEIC")


def test_the_extra_is_the_package_that_is_looked_for() -> None:
    assert formats.has_heif() == (importlib.util.find_spec("pillow_heif") is not None)


def test_a_raw_photo_is_not_taken_for_its_thumbnail(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.DNG", "TIFF")
    with pytest.raises(UnreadableImageError, match=r"x\.DNG is a raw photo, which is not read: develop first"):
        read_image(tmp_path / "x.DNG")


def test_only_its_suffix_makes_a_file_tga(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.tga")
    data = (tmp_path / "x.tga").read_bytes()
    assert np.array_equal(decode_image(data, "x.TGA"), RAMP)
    for name in ("x.png", "standard input"):
        with pytest.raises(UnreadableImageError, match="no known format"):
            decode_image(data, name)


def test_old_formats_stay_shut(tmp_path: Path) -> None:
    for format_ in ("EPS", "PCX", "ICO", "SGI"):
        Image.fromarray(RAMP).save(tmp_path / "x.png", format_)
        with pytest.raises(UnreadableImageError, match="no known format"):
            read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["tga", "jp2", "avif"])
def test_bombs_of_the_new_formats_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "tga":  # whose head alone says how large it is
        path.write_bytes(b"\0\0\2" + bytes(9) + b"\xff\xff\xff\xff\x18\0")
    else:
        Image.new("RGB", (64, 64)).save(path)
        monkeypatch.setattr("saliency_gan.images.reading.MAX_PIXELS", 4000)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(UnreadableImageError, match="pixels allowed"):
        read_image(path)
    assert MAX_PIXELS == 100_000_000


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff", "avif"])
def test_more_than_one_frame_is_said(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.warns(FirstFrameWarning, match=rf"x\.{suffix} has 3 frames or pages, of which only the first is read"):
        read = read_image(tmp_path / f"x.{suffix}")
    assert np.abs(read - (255, 0, 0)).max() < 8


def test_a_photo_with_a_second_view_of_it_is_no_animation(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    views = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    views[0].save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=views[1:])
    read_image(tmp_path / "x.jpg")
    assert not [warning for warning in recwarn if warning.category is FirstFrameWarning]
