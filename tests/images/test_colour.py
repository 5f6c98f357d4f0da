"""What profiles, alpha and depth become, against formulas and other readers."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from saliency_gan.images import colour
from saliency_gan.images.reading import UnreadableImageError, read_image, read_mask, read_picture
from tests.profiles import display_p3, p3_as_srgb

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (16, 20, 3), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_a_wide_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "wide.png", icc_profile=display_p3())
    converted = read_image(tmp_path / "wide.png")
    expected = p3_as_srgb(COLOURS)
    assert np.abs(expected - COLOURS).max() > 40
    # 8 bit engines round on the way, most where the curve is steep.
    assert np.abs(converted - expected).max() <= 3 and np.abs(converted - expected).mean() < 0.5


def test_a_wide_profile_counts_under_transparency(tmp_path: Path) -> None:
    rgba = np.dstack([COLOURS, np.full((16, 20), 255, np.uint8)])
    rgba[:8, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "wide.png", icc_profile=display_p3())
    picture = read_picture(tmp_path / "wide.png")
    assert np.abs(picture.rgb[8:] - p3_as_srgb(COLOURS[8:])).max() <= 3
    assert picture.rgba is not None and (picture.rgb[:8] == 255).all()
    assert np.abs(picture.rgba[:, :, :3] - p3_as_srgb(COLOURS)).max() <= 3


def test_srgb_photos_stay_as_they_are_and_need_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, profile in (("plain", None), ("tagged", SRGB)):
        Image.fromarray(COLOURS).save(tmp_path / f"{name}.png", **({"icc_profile": profile} if profile else {}))
    read_image(tmp_path / "tagged.png")
    monkeypatch.setattr(colour, "ImageCms", None)
    for name in ("plain", "tagged"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png"), COLOURS)


@pytest.mark.parametrize("profile", [b"no profile", display_p3()[:200], SRGB.replace(b"RGB ", b"Luv ")])
def test_damaged_profiles_do_not_hide_the_photo(tmp_path: Path, profile: bytes) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "x.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), COLOURS)


def test_a_profile_of_other_colours_than_the_photo_s_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[:, :, 0]).save(tmp_path / "grey.png", icc_profile=display_p3())
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[:, :, 1], COLOURS[:, :, 0])


def test_a_mask_s_values_are_no_colours(tmp_path: Path) -> None:
    grey = np.repeat(COLOURS[:, :, :1], 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "x.png", icc_profile=display_p3())
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), COLOURS[:, :, 0])


def test_a_photo_keeps_its_own_colours_and_alpha(tmp_path: Path) -> None:
    rgba = np.dstack([COLOURS, RNG.integers(0, 256, (16, 20), np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    np.testing.assert_array_equal(picture.rgba, rgba)
    alpha = rgba[:, :, 3:] / 255
    assert np.abs(picture.rgb - (COLOURS * alpha + 255 * (1 - alpha))).max() <= 1
    opaque = np.dstack([COLOURS, np.full((16, 20), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    picture = read_picture(tmp_path / "opaque.png")
    assert picture.rgba is None and np.array_equal(picture.rgb, COLOURS)


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.array([[0, 100, 255]], np.int32), 255),
        (np.array([[0, 1, 1]], np.int32), 255),
        (np.array([[0, 1000, 65535]], np.uint32), 65535),
        (np.array([[0, 70_000, 140_000]], np.int32), 140_000),
        (np.array([[0, 0.25, 1]], np.float32), 1),
        (np.array([[0, 0.25, 0.6]], np.float32), 1),
        (np.array([[-0.1, 0.5, 1.3]], np.float32), 1),
        (np.array([[0, 60, 200]], np.float32), 255),
        (np.array([[0, 300, 1000]], np.float32), 1000),
        (np.array([[0, 128, 65535]], np.uint16), 65535),
    ],
)
def test_deep_tiffs_are_as_bright_as_they_mean(tmp_path: Path, values: np.ndarray, white: float) -> None:
    tifffile.imwrite(tmp_path / "x.tif", values)
    expected = (values.astype(float) / white * 255).clip(0, 255)
    assert np.abs(read_image(tmp_path / "x.tif")[:, :, 0] - expected).max() <= 0.51


def test_dark_16_bit_pgm_photos_stay_dark(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.pgm"), np.full((4, 4), 200, np.uint16))
    assert (read_image(tmp_path / "x.pgm") <= 1).all()


class TestMasks:
    BLOB = np.zeros((16, 20), np.uint8)
    BLOB[4:12, 5:15], BLOB[4, 5:15] = 255, 100

    @pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30)])
    def test_alpha_is_the_mask_where_there_is_one_colour(self, tmp_path: Path, colour: tuple[int, ...]) -> None:
        rgba = np.dstack([np.broadcast_to(np.array(colour, np.uint8), (16, 20, 3)), self.BLOB])
        Image.fromarray(rgba).save(tmp_path / "x.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), self.BLOB)

    def test_alpha_is_the_mask_of_a_cut_out(self, tmp_path: Path) -> None:
        Image.fromarray(np.dstack([COLOURS, self.BLOB])).save(tmp_path / "x.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), self.BLOB)

    def test_nothing_but_transparency_is_an_empty_mask(self, tmp_path: Path) -> None:
        Image.new("LA", (5, 4), (255, 0)).save(tmp_path / "x.png")
        assert (read_mask(tmp_path / "x.png") == 0).all()

    @pytest.mark.parametrize("alpha", [255, 90])
    def test_the_same_alpha_everywhere_means_nothing(self, tmp_path: Path, alpha: int) -> None:
        Image.fromarray(np.dstack([self.BLOB, np.full_like(self.BLOB, alpha)])).save(tmp_path / "x.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), self.BLOB)

    def test_grey_values_beside_alpha_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.dstack([COLOURS[:, :, 0], self.BLOB])).save(tmp_path / "x.png")
        with pytest.raises(
            UnreadableImageError, match=r"x\.png .*it has grey values and is transparent in parts: save"
        ):
            read_mask(tmp_path / "x.png")

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
    def test_integers_of_0_and_1_stay(self, tmp_path: Path, kind: type) -> None:
        tifffile.imwrite(tmp_path / "x.tif", (self.BLOB > 0).astype(kind))
        np.testing.assert_array_equal(read_mask(tmp_path / "x.tif"), self.BLOB > 0)


@pytest.mark.parametrize(("bits", "black_is_zero"), [(12, True), (16, True), (16, False)])
def test_tiffs_of_any_depth_and_sense_show_the_same_ramp(tmp_path: Path, bits: int, black_is_zero: bool) -> None:
    white = 2**bits - 1
    ramp = np.linspace(0, white, 16).round().astype(np.uint16)[None].repeat(2, 0)
    (tmp_path / "x.tif").write_bytes(_tiff(ramp if black_is_zero else white - ramp, bits, black_is_zero))
    expected = (ramp / white * 255).round()
    assert np.array_equal(read_image(tmp_path / "x.tif")[:, :, 1], expected)
    assert np.array_equal(read_mask(tmp_path / "x.tif"), expected)


def _tiff(values: np.ndarray, bits: int, black_is_zero: bool) -> bytes:
    """An uncompressed little-endian TIFF in one strip; 12-bit samples are packed, first sample first."""
    height, width = values.shape
    digits = "".join(f"{value:0{bits}b}" for value in values.ravel())
    packed = int(digits, 2).to_bytes(len(digits) // 8, "big") if bits == 12 else values.astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(black_is_zero), 273: 8, 277: 1, 278: height}
    tags[279] = len(packed)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed + directory


def test_signed_16_bit_ends_at_its_largest_value(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 16384, 32767]], np.int16))
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_floats_of_pfm_and_beyond_all_bounds_keep_their_greys(tmp_path: Path) -> None:
    values = np.array([[0, 0.5, 1]], np.float32)
    (tmp_path / "x.pfm").write_bytes(b"Pf\n3 1\n-1.0\n" + values.tobytes())
    (tmp_path / "x.ppm").write_bytes((tmp_path / "x.pfm").read_bytes())
    assert read_image(tmp_path / "x.ppm")[0, :, 0].tolist() == [0, 128, 255]
    tifffile.imwrite(tmp_path / "inf.tif", np.array([[0, 0.5, np.inf]], np.float32))
    assert read_image(tmp_path / "inf.tif")[0, :2, 0].tolist() == [0, 128]
