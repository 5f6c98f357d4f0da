import math

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_gan.errors import UserError
from saliency_gan.generators.class_folders import load_class_folders
from saliency_gan.images.reading import read_image


def test_images_labels_and_names_belong_together(class_folders):
    data = load_class_folders(class_folders, side=16)
    assert data.names == ("apple", "boat", "cup")
    assert data.images.shape == (18, 16, 16, 3) and data.images.dtype == np.uint8
    assert data.labels.tolist() == [0] * 8 + [1] * 4 + [2] * 6
    ground = data.images[:, 0, 0].argmax(axis=1)  # apples lie on red, boats on green, cups on blue
    assert ground.tolist() == data.labels.tolist()
    assert data.left_out == ()


def test_a_picture_is_padded_with_its_edge_pixels(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(2):
            picture = random.integers(0, 256, (8, 4, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
    data = load_class_folders(tmp_path, side=8)
    original = read_image(tmp_path / "a" / "0.png")
    expected = np.concatenate([original[:, :1].repeat(2, 1), original, original[:, -1:].repeat(2, 1)], axis=1)
    assert np.array_equal(data.images[0], expected)


def test_a_class_is_drawn_by_the_square_root_of_its_size(class_folders):
    data = load_class_folders(class_folders, side=8)
    weights = data.sampling_weights()
    share = torch.zeros(3, dtype=torch.float64).index_add_(0, data.labels, weights) / weights.sum()
    roots = [math.sqrt(8), math.sqrt(4), math.sqrt(6)]
    torch.testing.assert_close(share, torch.tensor(roots, dtype=torch.float64) / sum(roots))
    assert all(len(weights[data.labels == label].unique()) == 1 for label in range(3))


def test_unreadable_files_are_named_and_the_rest_is_read(class_folders):
    (class_folders / "boat" / "broken.jpg").write_bytes(b"no image")
    (class_folders / "boat" / "empty.png").touch()
    whole = (class_folders / "apple" / "0.png").read_bytes()
    (class_folders / "apple" / "cut.png").write_bytes(whole[: len(whole) // 2])
    data = load_class_folders(class_folders, side=8)
    assert len(data.images) == 18
    assert len(data.left_out) == 3
    for sentence, name in zip(data.left_out, ("apple/cut.png", "boat/broken.jpg", "boat/empty.png"), strict=True):
        assert name in sentence and "cannot be read" in sentence
    report = data.describe()
    assert report.startswith("18 images in 3 classes, 4 to 8 a class\n      8  apple\n      6  cup\n      4  boat\n")
    assert report.count("left out: ") == 3


def test_other_files_hidden_ones_and_excluded_classes_are_passed_over(class_folders):
    (class_folders / "notes.txt").write_text("hello")
    (class_folders / "boat" / "Thumbs.db").write_text("hello")
    (class_folders / "boat" / ".hidden.png").write_text("hello")
    (class_folders / ".cache").mkdir()
    data = load_class_folders(class_folders, side=8, exclude=("apple",))
    assert data.names == ("boat", "cup") and data.left_out == ()
    assert data.labels.tolist() == [0] * 4 + [1] * 6
    data = load_class_folders(class_folders, side=8, exclude=("Apple",))
    assert data.names == ("apple", "boat", "cup")
    assert data.left_out == (f"{class_folders / 'Apple'} should be left out, but does not exist.",)


def test_small_classes_are_left_out_by_name(class_folders):
    data = load_class_folders(class_folders, side=8, min_images=5)
    assert data.names == ("apple", "cup")
    assert data.labels.tolist() == [0] * 8 + [1] * 6
    assert data.left_out == (f"{class_folders / 'boat'} has 4 readable images, fewer than the 5 a class needs.",)


def test_fewer_than_two_classes_are_refused(class_folders, tmp_path):
    with pytest.raises(UserError, match=r"has 1 class folders with at least 7 readable images"):
        load_class_folders(class_folders, side=8, min_images=7)
    with pytest.raises(UserError, match=r"has 0 class folders"):
        load_class_folders(class_folders / "apple", side=8)
    with pytest.raises(UserError, match=r"nowhere is no folder.*--family sngan"):
        load_class_folders(tmp_path / "nowhere", side=8)
