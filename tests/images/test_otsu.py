import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_gan.images import otsu


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 63), min_size=4, max_size=40))
def test_no_threshold_explains_more_of_the_variance(levels):
    values = np.array(levels, dtype=np.float64)

    def explained(level: int) -> float:
        low, high = values[values <= level], values[values > level]
        if not (len(low) and len(high)):
            return 0.0
        return len(low) * len(high) / len(values) ** 2 * (low.mean() - high.mean()) ** 2 / values.var()

    level, separability = otsu.split(otsu.histograms(torch.tensor(levels)[None, None], 64))
    best = max(explained(level) for level in range(64))
    assert separability.item() == pytest.approx(best, abs=1e-9)
    assert explained(level.item()) == pytest.approx(best, abs=1e-9)


def test_levels_are_those_of_opencv():
    pictures = np.random.default_rng(0).integers(0, 256, (4, 40, 30)).astype(np.uint8)
    pictures[1] //= 3
    pictures[2, :20] //= 5
    levels, _ = otsu.split(otsu.histograms(torch.from_numpy(pictures).long(), 256))
    assert levels.tolist() == [int(cv2.threshold(picture, 0, 255, cv2.THRESH_OTSU)[0]) for picture in pictures]


def test_separability_of_known_histograms():
    uniform = torch.full((64,), 4)
    two_levels = torch.zeros(64, dtype=torch.int64)
    two_levels[[6, 51]] = torch.tensor([90, 166])
    positions = torch.arange(64, dtype=torch.float64)
    normal = (1e6 * torch.exp(-0.5 * ((positions - 32) / 8) ** 2)).long()
    one_level = torch.eye(64, dtype=torch.int64)[20]
    _, found = otsu.split(torch.stack([uniform, two_levels, normal, one_level]))
    assert found.tolist() == pytest.approx([0.75, 1, 2 / math.pi, 0], abs=0.005)


def test_one_level_is_not_split():
    level, separability = otsu.split(otsu.histograms(torch.full((1, 8, 8), 128), 256))
    assert level.tolist() == [0] and separability.tolist() == [0]
