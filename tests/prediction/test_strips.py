import cv2
import numpy as np
import pytest

from saliency_gan.prediction import strips
from saliency_gan.prediction.strips import Stretched


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (201, 90), (3, 500)])
@pytest.mark.parametrize("channels", [(), (4,)])
def test_rows_are_those_of_the_whole_array(size: tuple[int, int], channels: tuple[int, ...]) -> None:
    small = np.random.default_rng(0).random((16, 9, *channels), np.float32)
    whole = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    for height in (1, 3, 200):
        parts = [slice(top, min(size[0], top + height)) for top in range(0, size[0], height)]
        joined = np.concatenate([Stretched(small, *size).rows(part) for part in parts])
        np.testing.assert_allclose(joined, whole, atol=2e-6)


def test_strips_cover_every_row_once_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP_PIXELS", 100)
    rows = list(strips.strips(25, 30))
    assert [row for part in rows for row in range(part.start, part.stop)] == list(range(25))
    assert max((part.stop - part.start) * 30 for part in rows) <= 100
    assert list(strips.strips(2, 1000)) == [slice(0, 1), slice(1, 2)]
