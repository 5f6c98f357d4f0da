import subprocess
import sys

import cv2
import numpy as np
import pytest

from saliency_gan.errors import UserError
from saliency_gan.saliency.photo_predictor import PhotoPredictor


class Reddish:
    """A network by hand: saliency is red in [0, 1], and one column is always salient, so flips can be told apart."""

    resolution = 32

    def maps(self, squares: np.ndarray) -> np.ndarray:
        assert squares.dtype == np.uint8
        assert squares.flags.c_contiguous
        maps = squares[..., 0].astype(np.float32) / 255
        maps[:, :, 3] = 1
        return maps


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (50, 80, 3), np.uint8)


def test_the_map_is_the_mean_over_scales_and_flips_of_any_network(photo: np.ndarray) -> None:
    views = []
    for side in (32, 64):
        square = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA if side < 50 else cv2.INTER_LINEAR)
        for column in (3, side - 4):
            red = square[:, :, 0] / 255.0
            red[:, column] = 1
            views.append(cv2.resize(red, (64, 64), interpolation=cv2.INTER_LINEAR))
    expected = cv2.resize(np.mean(views, axis=0), (80, 50), interpolation=cv2.INTER_LINEAR)
    actual = PhotoPredictor(Reddish(), scales=(1.0, 2.0)).predict(photo)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_without_flips_there_is_one_view_a_scale(photo: np.ndarray) -> None:
    predictor = PhotoPredictor(Reddish(), 64, flip=False)
    views = predictor.views([predictor.squeeze(photo)] * 2)
    assert views.shape == (1, 2, 64, 64)
    assert (views[..., 3] == 1).all()
    np.testing.assert_allclose(views[0, 0, :, 4:], predictor.squeeze(photo)[0][:, 4:, 0] / 255, atol=1e-6)


def test_the_network_s_resolution_is_the_default() -> None:
    assert PhotoPredictor(Reddish()).sides == (32,)
    assert PhotoPredictor(Reddish(), 96, (0.1, 1.0, 1.01)).sides == (32, 96)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"scales": (0.0,)}, r"scales is \[0.0\], but"),
        ({"scales": ()}, "scales is"),
        ({"scales": (1.0, float("nan"))}, "scales is"),
        ({"scales": (float("inf"),)}, "scales is"),
        ({"resolution": -5}, "resolution is -5"),
    ],
)
def test_sizes_that_cannot_be_are_refused(setting: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        PhotoPredictor(Reddish(), **setting)


def test_one_path_is_no_list_of_photos() -> None:
    with pytest.raises(UserError, match=r"give \['a.jpg'\]"):
        PhotoPredictor(Reddish()).predict_batch("a.jpg")


def test_torch_is_not_imported() -> None:
    script = "import saliency_gan.saliency.photo_predictor, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_any_number_of_photos_is_marked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    photos = [random.integers(0, 200, (40 + number, 60, 3), np.uint8) for number in range(7)]
    predictor = PhotoPredictor(Reddish(), scales=(1.0, 2.0))
    monkeypatch.setattr("saliency_gan.saliency.photo_predictor.AT_ONCE", 3)
    seen: list[int] = []
    maps = Reddish.maps
    monkeypatch.setattr(Reddish, "maps", lambda self, squares: seen.append(len(squares)) or maps(self, squares))
    found = predictor.mark_all(photos)
    assert max(seen) == 6  # three photos and their mirror images
    assert np.array_equal(found, predictor.mark([predictor.squeeze(photo) for photo in photos]))
    seen.clear()
    each = predictor.predict_batch(photos)
    assert max(seen) == 6 and [map_.shape for map_ in each] == [photo.shape[:2] for photo in photos]
    for map_, alone in zip(each, map(predictor.predict, photos), strict=True):
        np.testing.assert_allclose(map_, alone, atol=1e-6)
    assert predictor.mark_all([]).shape == (0, 64, 64) and predictor.predict_batch([]) == []
