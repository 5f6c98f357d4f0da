import io

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from saliency_gan.errors import UserError
from saliency_gan.images import reading
from saliency_gan.images.folders import find_images
from saliency_gan.images.layout import grid, square
from saliency_gan.images.reading import UnreadableImageError, decode_image, read_image, read_mask
from saliency_gan.images.tensors import to_signed, to_uint8, to_unit
from saliency_gan.images.writing import encode, write_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def picture():
    """uint8 [5, 7, 3] of random colours."""
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


class TestFindImages:
    def test_images_are_found_by_suffix_and_sorted(self, tmp_path):
        for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "c.webp"):
            (tmp_path / name).touch()
        (tmp_path / "sub.png").mkdir()
        (tmp_path / "sub.png" / "d.bmp").touch()
        assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.JPG", "c.webp"]
        assert [path.name for path in find_images(tmp_path, recursive=True)] == ["a.png", "b.JPG", "c.webp", "d.bmp"]

    def test_missing_and_empty_folders_are_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"There is no folder .*gone"):
            find_images(tmp_path / "gone")
        with pytest.raises(UserError, match="holds no image of a kind that is read, such as JPEG"):
            find_images(tmp_path)


class TestReadImage:
    @pytest.mark.parametrize("broken", ["cut", "empty", "bomb"])
    def test_pillow_images_that_cannot_be_read_are_refused_in_a_sentence(self, tmp_path, picture, broken, monkeypatch):
        Image.fromarray(np.tile(picture, (50, 50, 1))).save(tmp_path / "x.jpg")
        if broken == "cut":
            (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:-2000])
        if broken == "bomb":
            monkeypatch.setattr(reading, "MAX_PIXELS", 100)
        image = Image.new("RGB", (0, 0)) if broken == "empty" else Image.open(tmp_path / "x.jpg")
        with pytest.raises(UnreadableImageError, match=r"cannot be read as an image|pixels allowed"):
            reading.to_rgb(image)

    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
    def test_lossless_formats_come_back_exactly(self, tmp_path, picture, suffix):
        Image.fromarray(picture).save(tmp_path / f"x.{suffix}")
        read = read_image(tmp_path / f"x.{suffix}")
        assert read.dtype == np.uint8 and np.array_equal(read, picture)

    @pytest.mark.parametrize("suffix", ["jpg", "webp"])
    def test_lossy_formats_come_back_nearly(self, tmp_path, suffix):
        smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
        Image.fromarray(smooth).save(tmp_path / f"x.{suffix}", quality=95)
        assert np.abs(read_image(tmp_path / f"x.{suffix}").astype(int) - smooth).mean() < 3

    @pytest.mark.parametrize(
        ("orientation", "upright"),
        [
            (1, lambda a: a),
            (2, lambda a: a[:, ::-1]),
            (3, lambda a: a[::-1, ::-1]),
            (4, lambda a: a[::-1]),
            (5, lambda a: a.transpose(1, 0, 2)),
            (6, lambda a: np.rot90(a, -1)),
            (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
            (8, lambda a: np.rot90(a)),
        ],
    )
    def test_exif_orientation_is_applied(self, tmp_path, picture, orientation, upright):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(picture).save(tmp_path / "x.png", exif=exif)
        assert np.array_equal(read_image(tmp_path / "x.png"), upright(picture))

    @pytest.mark.parametrize("mode", ["L", "I;16", "P", "RGB", "RGBA", "CMYK"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_turned_tiff_is_read_alike_from_its_path_and_from_its_bytes(self, tmp_path, mode, orientation):
        values = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
        grey = Image.fromarray(values * 85 if mode == "I;16" else (values % 251).astype(np.uint8))
        exif = Image.Exif()
        exif[0x0112] = orientation
        (grey if mode in ("L", "I;16") else grey.convert("RGB").convert(mode)).save(tmp_path / "x.tif", exif=exif)
        turned = read_image(tmp_path / "x.tif")
        assert turned.shape[:2] == ((24, 32) if orientation < 5 else (32, 24))
        assert np.array_equal(turned, decode_image((tmp_path / "x.tif").read_bytes(), "x.tif"))

    def test_a_damaged_exif_block_does_not_hide_the_picture(self, tmp_path, picture):
        Image.fromarray(picture).save(tmp_path / "x.jpg", exif=b"Exif\0\0" + b"garbage!" * 4)
        assert read_image(tmp_path / "x.jpg").shape == (5, 7, 3)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey_is_scaled_to_8_bit(self, tmp_path, suffix):
        values = np.array([[0, 128, 257, 32768], [65535, 65406, 1000, 256]], np.uint16)
        cv2.imwrite(str(tmp_path / f"x.{suffix}"), values)
        expected = np.round(values / 257).astype(np.uint8)
        assert np.array_equal(read_image(tmp_path / f"x.{suffix}"), np.repeat(expected[:, :, None], 3, axis=2))

    def test_16_bit_colour_is_scaled_to_8_bit(self, tmp_path):
        values = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), np.uint16)
        cv2.imwrite(str(tmp_path / "x.png"), values[:, :, ::-1])
        assert np.abs(read_image(tmp_path / "x.png") - values / 257).max() <= 1

    def test_float_tiff_is_scaled_by_its_largest_value(self, tmp_path):
        Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "unit.tif")
        Image.fromarray(np.array([[-1.0, 200.0, np.nan, 400.0]], np.float32)).save(tmp_path / "large.tif")
        assert read_image(tmp_path / "unit.tif")[0, :, 0].tolist() == [0, 128, 255]
        assert read_image(tmp_path / "large.tif")[0, :, 0].tolist() == [0, 128, 0, 255]

    @pytest.mark.parametrize("mode", ["L", "1"])
    def test_grey_is_repeated(self, tmp_path, mode):
        grey = Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert(mode)
        grey.save(tmp_path / "x.png")
        assert read_image(tmp_path / "x.png").tolist() == [[[0] * 3, [255] * 3, [0] * 3]]

    def test_transparency_is_laid_on_white(self, tmp_path):
        pixels = np.array([[(*RED, 255), (*RED, 0), (0, 0, 0, 128)]], np.uint8)
        Image.fromarray(pixels, "RGBA").save(tmp_path / "x.png")
        assert read_image(tmp_path / "x.png").tolist() == [[list(RED), list(WHITE), [127, 127, 127]]]

    def test_grey_with_transparency_is_laid_on_white(self, tmp_path):
        Image.fromarray(np.array([[(10, 255), (10, 0)]], np.uint8), "LA").save(tmp_path / "x.png")
        assert read_image(tmp_path / "x.png").tolist() == [[[10] * 3, [255] * 3]]

    @pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"])
    def test_palettes_with_transparency_are_laid_on_white(self, tmp_path, transparency):
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
        image.putpalette([*RED, *GREEN, *BLUE])
        image.save(tmp_path / "x.png", transparency=transparency)
        assert read_image(tmp_path / "x.png").tolist() == [[list(RED), list(WHITE), list(BLUE)]]

    def test_cmyk_is_converted(self, tmp_path):
        image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
        for name in ("x.jpg", "x.tif"):
            image.save(tmp_path / name, quality=100)
            assert np.abs(read_image(tmp_path / name).astype(int) - RED).max() <= 3

    def test_the_first_frame_of_an_animation_counts(self, tmp_path):
        frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
        frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
        assert (read_image(tmp_path / "x.gif") == RED).all()

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
    def test_truncated_files_are_refused(self, tmp_path, suffix):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableImageError, match=rf"x.{suffix} cannot be read as an image"):
            read_image(path)

    def test_image_bombs_are_refused_before_they_are_decoded(self, tmp_path, monkeypatch):
        Image.new("1", (2000, 1001)).save(tmp_path / "x.png")
        monkeypatch.setattr("saliency_gan.images.reading.MAX_PIXELS", 2_000_000)
        monkeypatch.setattr(Image.Image, "load", None)
        with pytest.raises(UnreadableImageError, match="more than the 2,000,000 pixels allowed"):
            read_image(tmp_path / "x.png")

    def test_bombs_that_pillow_itself_refuses_get_the_same_sentence(self, tmp_path, monkeypatch):
        Image.new("1", (100, 100)).save(tmp_path / "x.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(UnreadableImageError, match="pixels allowed"):
            read_image(tmp_path / "x.png")

    def test_files_that_are_no_image_are_refused(self, tmp_path):
        (tmp_path / "text.jpg").write_text("hello")
        (tmp_path / "empty.png").touch()
        (tmp_path / "folder.png").mkdir()
        for name, reason in (
            ("text.jpg", "no known format"),
            ("empty.png", "it is empty"),
            ("folder.png", "directory"),
        ):
            with pytest.raises(UnreadableImageError, match=f"{name} cannot be read as an image .*{reason}"):
                read_image(tmp_path / name)
        with pytest.raises(UnreadableImageError, match="There is no image"):
            read_image(tmp_path / "gone.png")


class TestReadMask:
    def test_grey_values_come_back_exactly(self, tmp_path):
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        cv2.imwrite(str(tmp_path / "x.png"), values)
        assert np.array_equal(read_mask(tmp_path / "x.png"), values)

    def test_one_bit_and_colour_masks_become_grey(self, tmp_path):
        Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
        Image.fromarray(np.array([[WHITE, (0, 0, 0)]], np.uint8)).save(tmp_path / "colour.png")
        for name in ("bit.png", "colour.png"):
            assert read_mask(tmp_path / name).tolist() == [[255, 0]]


class TestWriting:
    @pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_png_keeps_every_value(self, tmp_path, shape, kind):
        image = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind)
        write_image(tmp_path / "new" / "x.png", image)
        read = cv2.imread(str(tmp_path / "new" / "x.png"), cv2.IMREAD_UNCHANGED)
        if len(shape) == 3:
            read = cv2.cvtColor(read, cv2.COLOR_BGR2RGB if shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        assert read.dtype == kind and np.array_equal(read, image)

    def test_suffix_and_quality_choose_the_encoding(self, picture):
        assert Image.open(io.BytesIO(encode(picture, ".png"))).format == "PNG"
        assert Image.open(io.BytesIO(encode(picture, ".jpg"))).format == "JPEG"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        assert len(encode(noise, ".jpg", quality=20)) < len(encode(noise, ".jpg"))


class TestRanges:
    @given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.just(3))))
    def test_bytes_survive_the_way_to_signed_and_back(self, images):
        signed = to_signed(images)
        assert signed.shape == (len(images), 3, *images.shape[1:3]) and signed.dtype == torch.float32
        assert np.array_equal(to_uint8(signed), images)

    @given(arrays.arrays(np.float32, (2, 3, 2, 2), elements=st.floats(-3, 3, width=32)))
    def test_signed_values_come_back_to_half_a_level_and_are_clipped(self, values):
        images = torch.from_numpy(values)
        back = to_signed(to_uint8(images))
        assert (back - images.clamp(-1, 1)).abs().max() <= 0.5 / 127.5 + 1e-6

    def test_ends_and_middle(self):
        assert to_signed(np.array([[[[0], [255]]]], np.uint8)).flatten().tolist() == [-1, 1]
        assert to_uint8(torch.tensor([[[[-1.0, 1.0, 0.0, 9.0]]]]))[0, 0, :, 0].tolist() == [0, 255, 128, 255]
        assert to_unit(torch.tensor([-1.0, 0.0, 1.0, 2.0, -2.0])).tolist() == [0, 0.5, 1, 1, 0]

    def test_grey_is_repeated_and_half_precision_is_allowed(self):
        grey = torch.tensor([[[[-1.0, 1.0]]]], dtype=torch.bfloat16)
        assert to_uint8(grey).tolist() == [[[[0, 0, 0], [255, 255, 255]]]]


class TestSquare:
    @pytest.mark.parametrize("shape", [(4, 8, 3), (8, 4, 3), (8, 8, 3), (1, 8, 3)])
    def test_the_picture_lies_in_the_middle_of_its_edge_pixels(self, shape):
        picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        height, width = shape[:2]
        rows = (np.arange(8) - (8 - height) // 2).clip(0, height - 1)
        columns = (np.arange(8) - (8 - width) // 2).clip(0, width - 1)
        assert np.array_equal(square(picture, 8), picture[rows][:, columns])

    def test_shrinking_averages_areas(self):
        picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        expected = picture.reshape(4, 2, 4, 2, 3).astype(float).mean(axis=(1, 3))
        assert np.abs(square(picture, 4) - expected).max() <= 0.5

    def test_growing_interpolates(self):
        ramp = np.linspace(0, 255, 4).round().astype(np.uint8)[None, :, None].repeat(4, 0).repeat(3, 2)
        grown = square(ramp, 16)[0, :, 0].astype(int)
        assert (np.diff(grown) >= 0).all() and np.diff(grown).max() < 30  # nearest neighbours would jump by 85

    def test_extreme_shapes_keep_a_pixel(self):
        assert square(np.zeros((1, 1000, 3), np.uint8), 8).shape == (8, 8, 3)


def test_grid_lays_tiles_out_in_rows_on_white():
    tiles = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = grid(tiles, columns=2, gap=1)
    assert sheet.shape == (5, 7, 3)
    expected = np.full((5, 7), 255)
    expected[0:2, 0:3], expected[0:2, 4:7], expected[3:5, 0:3] = 10, 20, 30
    assert np.array_equal(sheet[:, :, 0], expected)


def test_bytes_are_decoded_as_files_are(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(decode_image(data, "number 3"), picture)
    for damaged, reason in ((data[:-30], "cannot be read"), (b"", "it is empty"), (b"no image", "no known format")):
        with pytest.raises(UnreadableImageError, match=rf"number 3 .*{reason}|number 3 {reason}"):
            decode_image(damaged, "number 3")
