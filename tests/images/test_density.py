import numpy as np
import pytest
from PIL import Image

from saliency_gan.images.reading import read_picture
from saliency_gan.images.writing import write_image


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_dots_an_inch_are_written_as_others_read_them(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write_image(path, np.zeros((5, 7, 3), np.uint8), density=(300, 150))
    with Image.open(path) as image:
        image.load()
        assert np.round(image.info["dpi"]).tolist() == [300, 150]
    assert np.round(read_picture(path).density).tolist() == [300, 150]


def test_a_turned_photo_turns_its_dots_an_inch(tmp_path):
    exif = Image.Exif()
    for orientation, expected in ((1, (300, 100)), (3, (300, 100)), (6, (100, 300))):
        exif[0x0112] = orientation
        Image.new("RGB", (4, 8)).save(tmp_path / "x.jpg", dpi=(300, 100), exif=exif)
        assert read_picture(tmp_path / "x.jpg").density == expected


@pytest.mark.parametrize("dpi", [(0, 0), (1e9, 1e9)])
def test_senseless_values_count_as_none(tmp_path, dpi):
    Image.new("RGB", (4, 8)).save(tmp_path / "x.tif", dpi=dpi)
    assert read_picture(tmp_path / "x.tif").density is None
