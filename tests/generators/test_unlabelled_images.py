import io
import zipfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from saliency_gan.errors import UserError
from saliency_gan.generators import unlabelled_images
from saliency_gan.generators.unlabelled_images import load_unlabelled_images

from .conftest import Payload


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)


@pytest.fixture
def archive(tmp_path):
    def write(**arrays):
        path = tmp_path / "images.npz"
        np.savez(path, **arrays)
        return path

    return write


def encoded(pictures):
    """Pictures end to end as PNG, and where each begins."""
    parts = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        parts.append(buffer.getvalue())
    offset = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), offset


def test_the_first_array_of_images_is_taken_as_it_is(archive, grey):
    path = archive(labels=np.arange(5), weights=np.zeros((5, 8, 8)), x_train=grey, x_test=255 - grey)
    data = load_unlabelled_images(path, 8, 1)
    assert np.array_equal(data.images, grey[..., None])
    assert data.labels.dtype == torch.int64 and data.labels.tolist() == [0] * 5
    assert data.names == ("all",) and data.describe() == "5 images"
    assert data.sampling_weights().unique().numel() == 1


def test_grey_and_colour_are_turned_into_each_other(archive, grey):
    assert np.array_equal(load_unlabelled_images(archive(a=grey), 8, 3).images, grey[..., None].repeat(3, 3))
    assert np.array_equal(load_unlabelled_images(archive(a=grey[..., None]), 8, 1).images, grey[..., None])
    colour = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert np.array_equal(load_unlabelled_images(archive(a=colour), 8, 3).images, colour)
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(load_unlabelled_images(archive(a=colour), 8, 1).images[..., 0] - luma).max() <= 1


def test_other_sizes_are_fitted_and_padded_with_edge_pixels(archive):
    picture = np.zeros((1, 4, 8), np.uint8)
    picture[:, 0], picture[:, 3] = 10, 200
    image = load_unlabelled_images(archive(a=picture), 8, 1).images[0, :, :, 0]
    assert (image[:3] == 10).all() and (image[5:] == 200).all() and (image[3:5] == 0).all()


def test_encoded_images_end_to_end_are_decoded(archive):
    pictures = np.random.default_rng(2).integers(0, 256, (3, 8, 8, 3), np.uint8)
    blob, offset = encoded(pictures)
    data = load_unlabelled_images(archive(blob=blob, offset=offset, year=np.arange(3)), 8, 3)
    assert np.array_equal(data.images, pictures)
    damaged = blob.copy()
    damaged[offset[1] : offset[1] + 40] = 0
    data = load_unlabelled_images(archive(blob=damaged, offset=offset), 8, 3)
    assert np.array_equal(data.images, pictures[[0, 2]])
    assert len(data.left_out) == 1 and "images.npz[1] cannot be read" in data.left_out[0]


@pytest.mark.parametrize(
    "offset", [[0, 40, 20], [0, 10_000], [-3, 10], [0.0, 10.0], [[0, 10]], [5]], ids=lambda value: str(value)
)
def test_offsets_that_do_not_fit_the_blob_are_refused(archive, offset):
    path = archive(blob=np.zeros(100, np.uint8), offset=np.array(offset))
    with pytest.raises(UserError, match="offset has to rise from 0 to the length"):
        load_unlabelled_images(path, 8, 3)


def test_an_archive_without_any_readable_image_is_refused(archive):
    path = archive(blob=np.zeros(100, np.uint8), offset=np.array([0, 50, 100]))
    with pytest.raises(UserError, match=r"None of the 2 images .* the first: .*images.npz\[0\] cannot be read"):
        load_unlabelled_images(path, 8, 3)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 8, 8), np.float32), r"a: float32 \[2, 8, 8\]"),
        (np.zeros((2, 8, 8), np.uint16), r"a: uint16 \[2, 8, 8\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"a: uint8 \[2, 8, 8, 4\]"),
        (np.zeros((8, 8), np.uint8), r"a: uint8 \[8, 8\]"),
        (np.zeros((0, 8, 8), np.uint8), r"a: uint8 \[0, 8, 8\]"),
    ],
)
def test_arrays_of_another_kind_are_refused(archive, array, found):
    with pytest.raises(UserError, match=f"holds no images \\({found}\\): one array has to be uint8"):
        load_unlabelled_images(archive(a=array), 8, 1)


def test_a_pickled_array_is_refused_and_never_run(tmp_path):
    witness = tmp_path / "was-run"
    path = tmp_path / "images.npz"
    np.savez(path, a=np.array([Payload(witness)], dtype=object))
    with pytest.raises(UserError, match="holds pickled objects, which are never loaded"):
        load_unlabelled_images(path, 8, 1)
    assert not witness.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "single array", "broken member"])
def test_files_that_are_no_archive_are_refused(archive, grey, damage):
    path = archive(a=grey)
    content = path.read_bytes()
    if damage == "single array":
        buffer = io.BytesIO()
        np.save(buffer, grey)
        content = buffer.getvalue()
    elif damage == "broken member":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr'")
        content = path.read_bytes()
    else:
        content = {"cut": content[:-50], "empty": b"", "text": b"no archive"}[damage]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"images\.npz cannot be read as an \.npz archive of images \((?!it holds)"):
        load_unlabelled_images(path, 8, 1)


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no archive .*gone\.npz"):
        load_unlabelled_images(tmp_path / "gone.npz", 8, 1)


def test_a_folder_is_searched_recursively_and_unreadable_files_are_named(tmp_path):
    picture = np.full((6, 6, 3), (10, 20, 200), np.uint8)
    for number, folder in enumerate((tmp_path, tmp_path / "a", tmp_path / "a" / "b")):
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), picture[:, :, ::-1])
    (tmp_path / "a" / "broken.jpg").write_bytes(b"no image")
    data = load_unlabelled_images(tmp_path, 4, 3)
    assert data.images.shape == (3, 4, 4, 3) and (data.images == picture[0, 0]).all()
    assert data.describe().startswith("3 images\nleft out: ") and "broken.jpg cannot be read" in data.left_out[0]
    with pytest.raises(UserError, match="There is no folder"):
        load_unlabelled_images(tmp_path / "gone", 4, 3)


class Digits:
    """Stands for torchvision's data set: 28 px digits, whose corners are black."""

    def __init__(self, root, train, download):
        assert (str(root), train, download) == ("data", True, True)
        self.data = torch.zeros(2, 28, 28, dtype=torch.uint8)
        self.data[:, 7:21, 7:21] = 255


def test_mnist_comes_from_torchvision_and_is_fitted(monkeypatch):
    monkeypatch.setattr("torchvision.datasets.MNIST", Digits)
    images = load_unlabelled_images(unlabelled_images.MNIST, 32, 1).images
    assert images.shape == (2, 32, 32, 1)
    assert (images[:, 9:23, 9:23] == 255).all() and (images[:, :7] == 0).all()


@pytest.mark.parametrize("error", [RuntimeError("Error downloading train-images-idx3-ubyte.gz"), OSError("no route")])
def test_mnist_without_a_network_says_what_to_do(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    with pytest.raises(UserError, match=r"MNIST could not be downloaded \(.*data/MNIST/raw, or give an \.npz archive"):
        load_unlabelled_images(unlabelled_images.MNIST, 32, 1)
