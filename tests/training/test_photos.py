import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from saliency_gan.errors import UserError
from saliency_gan.images.reading import read_image
from saliency_gan.saliency.predictor import resize
from saliency_gan.training.photos import Photos, compress, read_photos
from tests.saliency.toys import disc

SAMPLES = Path(__file__).parents[2] / "data" / "samples" / "images"


def write_greys(folder: Path, levels: range) -> Path:
    """One plain picture for each level of grey, called after it."""
    folder.mkdir(parents=True, exist_ok=True)
    for level in levels:
        Image.new("RGB", (20 + level % 7, 40), (level, level, level)).save(folder / f"{level:03d}.png")
    return folder


def levels(photos: Photos) -> list[int]:
    return [int(photos[index][0, 0, 0]) for index in range(len(photos))]


def test_photos_are_squeezed_in_the_order_of_their_names_and_bad_ones_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_greys(tmp_path / "b", range(100, 110))
    write_greys(tmp_path / "a", range(200, 208))
    (tmp_path / "bad.jpg").write_text("no image")
    photos = read_photos([tmp_path], 8, 100, 0)
    assert photos[0].shape == (8, 8, 3) and photos[0].dtype == np.uint8
    assert levels(photos) == [*range(200, 208), *range(100, 110)]
    assert "bad.jpg" in capsys.readouterr().err


def test_photos_stay_near_their_source_and_in_their_colours() -> None:
    photos = read_photos([SAMPLES], 96, 100, 0)
    for index, path in enumerate(sorted(SAMPLES.iterdir())[:8]):
        source = resize(read_image(path), 96).astype(float)
        errors = photos[index] - source
        assert 20 * np.log10(255 / np.sqrt((errors**2).mean())) > 34, path.name
        assert np.abs(errors.mean((0, 1))).max() < 1, path.name  # red stays red


def test_a_photo_is_the_jpeg_file_that_pillow_reads_too(tmp_path: Path) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 250, 60, 10
    (tmp_path / "photo.jpg").write_bytes(compress(image))
    by_pillow = np.asarray(Image.open(tmp_path / "photo.jpg"))
    np.testing.assert_allclose(Photos([compress(image)], 32)[0].astype(int), by_pillow.astype(int), atol=2)
    assert np.abs(by_pillow.astype(int) - image).max() < 8  # no colour bleeds over the edge: chroma is not halved


def test_ten_thousand_photos_take_half_a_gigabyte() -> None:
    photos = read_photos([SAMPLES], 224, 100, 0)
    size = sum(len(file) for file in photos.files) / len(photos)
    assert size < 224 * 224 * 3 / 3
    assert 10_000 * size < 0.5 * 2**30


def test_a_subset_has_its_photos_in_the_order_asked_for(tmp_path: Path) -> None:
    photos = read_photos([write_greys(tmp_path, range(100, 120))], 8, 100, 0)
    some = photos.subset([5, 2, 2])
    assert levels(some) == [105, 102, 102]
    assert (some.side, len(photos.subset(range(0)))) == (8, 0)
    assert some.digests == [photos.digests[index] for index in (5, 2, 2)]


def test_the_digest_tells_photos_and_their_order_but_not_their_size(tmp_path: Path) -> None:
    folder = write_greys(tmp_path, range(100, 120))
    photos = read_photos([folder], 8, 100, 0)
    files = sorted(folder.iterdir())
    each = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
    assert photos.sha256 == hashlib.sha256(each).hexdigest()
    assert read_photos([folder], 16, 100, 0).sha256 == photos.sha256
    order = [1, 0, *range(2, 20)]
    assert photos.subset(order).sha256 != photos.sha256 != photos.subset(range(19)).sha256
    Image.new("RGB", (20, 40), (7, 7, 7)).save(files[3])
    assert read_photos([folder], 8, 100, 0).sha256 != photos.sha256
    image, _ = disc(0)
    assert Photos([compress(image)], 32).sha256 != Photos([compress(255 - image)], 32).sha256


def test_several_folders_are_read_and_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = write_greys(tmp_path / "first", range(100, 112)), write_greys(tmp_path / "second", range(200, 210))
    shutil.copy(first / "100.png", second / "copy.png")  # another file, though it holds the same
    monkeypatch.chdir(tmp_path)
    once = read_photos([first, second], 8, 100, 0)
    assert levels(once) == [*range(100, 112), *range(200, 210), 100]
    for folders in (
        [first, second, first],
        [first, second, tmp_path],
        [first, second, Path("first"), Path("./second")],
    ):
        assert levels(read_photos(folders, 8, 100, 0)) == levels(once)


def test_some_of_many_are_drawn_at_random_the_same_number_from_each_folder(tmp_path: Path) -> None:
    ranges = {"a": range(50), "b": range(100, 150), "few": range(200, 206)}
    folders = [write_greys(tmp_path / name, greys) for name, greys in ranges.items()]
    draws = [levels(read_photos(folders, 8, 30, seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    for drawn in draws:
        assert len(set(drawn)) == 30 and drawn == sorted(drawn)
        assert [sum(level in greys for level in drawn) for greys in ranges.values()] == [12, 12, 6]
    assert len(read_photos(folders, 8, 1000, 0)) == 106


def test_too_few_photos_are_refused(tmp_path: Path) -> None:
    write_greys(tmp_path / "few", range(15))
    with pytest.raises(UserError, match="few holds 15 readable photos, but this needs 16"):
        read_photos([tmp_path / "few"], 8, 100, 0)
    with pytest.raises(UserError, match=r"few, .*more holds 15 readable photos"):
        read_photos([tmp_path / "few", write_greys(tmp_path / "more", range(16))], 8, 15, 0)
    with pytest.raises(UserError, match="There is no folder"):
        read_photos([tmp_path / "nowhere"], 8, 100, 0)


def test_a_photo_that_vanishes_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_greys(tmp_path, range(100, 118))
    gone = sorted(folder.iterdir())[0]

    def reading(path: Path) -> np.ndarray:
        image = read_image(path)
        if path == gone:
            path.unlink()
        return image

    monkeypatch.setattr("saliency_gan.training.photos.read_image", reading)
    assert len(read_photos([folder], 8, 100, 0)) == 17


def test_an_unreadable_photo_is_told_from_a_readable_one_by_its_content(tmp_path: Path) -> None:
    folder = write_greys(tmp_path, range(100, 117))
    whole = cv2.imencode(".png", np.zeros((30, 30, 3), np.uint8))[1].tobytes()
    (folder / "cut.png").write_bytes(whole[:40])
    assert len(read_photos([folder], 8, 100, 0)) == 17


def test_a_link_to_itself_is_reported_and_the_rest_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_greys(tmp_path, range(16))
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert len(read_photos([tmp_path], 8, 100, 0)) == 16
    assert "loop.jpg" in capsys.readouterr().err
