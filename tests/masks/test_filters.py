from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from saliency_gan.config import MasksConfig
from saliency_gan.masks.filters import (
    CHECKS,
    agreement,
    border_share,
    clean,
    fill_holes,
    histogram_peaks,
    intersection_over_union,
    keep_large_components,
    open_mask,
    rejected_by,
)

EVERYWHERE = np.ones((3, 3), bool)
PERMISSIVE = {"min_area": 0.0, "max_area": 1.0, "max_border": 1.0}


def blobs(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).random((40, 36))
    return (ndimage.gaussian_filter(noise, 1.2) > 0.5).astype(np.uint8)


def rectangle(top: int, left: int, height: int, width: int, side: int = 20) -> NDArray[np.uint8]:
    mask = np.zeros((side, side), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def rejection(mask: NDArray[np.uint8], shifted: Any = None, second: Any = None, **settings: Any) -> str | None:
    compared = () if second is None else (mask, second)
    return rejected_by(mask, shifted, compared, MasksConfig(**{**PERMISSIVE, **settings}))


@pytest.mark.parametrize("seed", range(5))
def test_opening_agrees_with_scipy(seed: int):
    cross = ndimage.generate_binary_structure(2, 1)
    eroded = ndimage.binary_erosion(blobs(seed), cross, border_value=1)
    np.testing.assert_array_equal(open_mask(blobs(seed), 3), ndimage.binary_dilation(eroded, cross))


def test_opening_removes_lines_and_keeps_the_place_of_the_rest():
    square = rectangle(6, 7, 9, 9)
    np.testing.assert_array_equal(open_mask(square | rectangle(0, 2, 20, 1), 3)[:, 7:16], open_mask(square, 3)[:, 7:16])
    for diameter in (3, 5, 7):
        opened = open_mask(square, diameter)
        assert not (opened & ~square & 1).any()
        np.testing.assert_array_equal(opened[6:15, 7:16], opened[6:15, 7:16][::-1, ::-1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_large_components_agree_with_scipy(seed: int, share: float):
    labels, count = ndimage.label(blobs(seed), EVERYWHERE)
    areas = np.bincount(labels.ravel())[1:]
    kept = [label for label in range(1, count + 1) if areas[label - 1] >= share * areas.max()]
    np.testing.assert_array_equal(keep_large_components(blobs(seed), share), np.isin(labels, kept))


def test_no_component_at_all_stays_empty():
    assert not keep_large_components(np.zeros((8, 8), np.uint8), 0.2).any()


@pytest.mark.parametrize("seed", range(8))
def test_holes_agree_with_scipy(seed: int):
    np.testing.assert_array_equal(fill_holes(blobs(seed)), ndimage.binary_fill_holes(blobs(seed)))


def test_a_full_mask_stays_full():
    np.testing.assert_array_equal(fill_holes(np.ones((5, 5), np.uint8)), 1)


def test_cleaning_does_only_what_is_switched_on():
    mask = rectangle(2, 2, 12, 12) & ~rectangle(6, 6, 3, 3) | rectangle(16, 17, 3, 3) | rectangle(0, 18, 4, 1)
    off: dict[str, Any] = {"opening": 0, "min_component": 0.0, "fill_holes": False}
    np.testing.assert_array_equal(clean(mask > 0, MasksConfig(**off)), mask)
    filled = clean(mask > 0, MasksConfig(**{**off, "fill_holes": True}))
    np.testing.assert_array_equal(filled, mask | rectangle(6, 6, 3, 3))
    largest = clean(mask > 0, MasksConfig(**{**off, "min_component": 0.2}))
    np.testing.assert_array_equal(largest, rectangle(2, 2, 12, 12) & ~rectangle(6, 6, 3, 3))
    opened = clean(mask > 0, MasksConfig(**{**off, "opening": 3}))
    assert not opened[:4, 18].any() and opened[17, 18] and not opened[7, 7]


def test_border_share_counts_the_outermost_pixels():
    assert border_share(np.ones((6, 9), np.uint8)) == 1
    assert border_share(rectangle(1, 1, 18, 18)) == 0
    assert border_share(rectangle(0, 0, 5, 20)) == pytest.approx((20 + 4 + 4) / 76)


@pytest.mark.parametrize(
    ("bins", "peaks"),
    [
        ([0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ([9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], 2),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 1),
        ([0, 4, 4, 4, 1, 1, 5, 5, 0, 0, 0, 0], 2),
        ([5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 0], 1),
        ([3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1], 6),
    ],
)
def test_peaks_of_the_histogram(bins: list[int], peaks: int):
    centres = (np.arange(12) + 0.5) / 12
    assert histogram_peaks(np.repeat(centres, bins).astype(np.float32)) == peaks


def test_intersection_over_union():
    assert intersection_over_union(rectangle(0, 0, 10, 10), rectangle(5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert intersection_over_union(rectangle(0, 0, 0, 0), rectangle(0, 0, 0, 0)) == 1
    assert intersection_over_union(rectangle(0, 0, 4, 4), rectangle(9, 9, 4, 4)) == 0


def test_each_check_rejects_on_its_own_side_of_its_limit():
    mask = rectangle(0, 5, 10, 10)  # a quarter of the image, 10 of 76 border pixels
    assert rejection(mask, min_area=0.25, max_area=0.25) is None
    assert rejection(mask, min_area=0.26) == "min_area"
    assert rejection(mask, max_area=0.24) == "max_area"
    assert rejection(mask, max_border=10 / 76) is None
    assert rejection(mask, max_border=0.13) == "max_border"
    one_peak, two_peaks = np.full((20, 20), 0.9, np.float32), np.where(mask, 0.2, 0.9).astype(np.float32)
    assert rejection(mask, shifted=one_peak) == "two_peaks"
    assert rejection(mask, shifted=two_peaks) is None
    second = rectangle(0, 5, 10, 5)  # IoU one half
    assert rejection(mask, second=second, min_agreement=0.5) is None
    assert rejection(mask, second=second, min_agreement=0.51) == "min_agreement"


def test_several_rules_agree_by_the_mean_iou_of_any_two():
    masks = [rectangle(0, 0, 10, 10), rectangle(0, 5, 10, 5), rectangle(0, 0, 10, 5)]  # IoU 1/2, 1/2 and 0
    assert agreement(masks) == pytest.approx(1 / 3)
    assert rejected_by(masks[0], None, masks, MasksConfig(**PERMISSIVE, min_agreement=0.33)) is None
    assert rejected_by(masks[0], None, masks, MasksConfig(**PERMISSIVE, min_agreement=0.34)) == "min_agreement"


def test_the_first_check_that_fails_is_named():
    full, one_peak, second = np.ones((20, 20), np.uint8), np.zeros((20, 20), np.float32), rectangle(0, 0, 2, 2)
    settings = {"max_area": 0.5, "max_border": 0.5, "min_agreement": 0.9}
    checks = [("max_area", 1.0), ("max_border", 1.0), ("two_peaks", None), ("min_agreement", 0.0)]
    found = []
    for check, permissive in checks:
        assert rejection(full, one_peak, second, **settings) == check
        found.append(check)
        if permissive is None:
            one_peak = np.tile(np.linspace(0, 1, 20, dtype=np.float32) > 0.5, (20, 1)).astype(np.float32)
        else:
            settings[check] = permissive
    assert rejection(full, one_peak, second, **settings) is None
    assert found == [check for check in CHECKS if check not in ("min_area", "min_stability", "min_fit")]
