import cv2
import numpy as np

from saliency_gan.evaluation.benchmarks import BenchmarkPair
from saliency_gan.evaluation.figures import CAPTION, TILE, curves_picture, sheet
from saliency_gan.evaluation.measuring import Example
from saliency_gan.evaluation.metrics import Curves


def example(tmp_path, with_photo=True):
    truth = np.zeros((30, 60), bool)
    truth[:, 30:] = True
    photo = np.full((30, 60, 3), (200, 10, 20), np.uint8)
    return Example(BenchmarkPair("é", tmp_path), truth, photo if with_photo else None, None)


def test_a_strip_shows_photo_mask_and_map(tmp_path):
    saliency = np.full((15, 30), 0.5, np.float32)
    picture = sheet([example(tmp_path)] * 2, [saliency] * 2, ["first é", "second"], columns=1)
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * (CAPTION + TILE) + 8, 3 * TILE + 2 * 2, 3)
    middle = CAPTION + TILE // 2
    assert picture[middle, TILE // 2].tolist() == [200, 10, 20]
    assert picture[middle, TILE + 2 + 10].tolist() == [0, 0, 0]
    assert picture[middle, 2 * TILE + 2 - 10].tolist() == [255, 255, 255]
    assert picture[middle, 2 * (TILE + 2) + 40].tolist() == [128, 128, 128]


def test_without_photos_mask_and_map_remain(tmp_path):
    picture = sheet([example(tmp_path, with_photo=False)], [np.zeros((30, 60), np.uint8)], ["one"])
    assert picture.shape == (CAPTION + TILE, 2 * TILE + 2, 3)


def test_curves_are_a_readable_png():
    ramp = np.linspace(1, 0, 256)
    data = curves_picture(
        "a $et_of$ {photos}", {"$m_i$n$e": Curves(1 - ramp, ramp, ramp), "_other": Curves(ramp, ramp, ramp)}
    )
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 900
