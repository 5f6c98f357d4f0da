from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from saliency_gan.config import AdaptConfig
from saliency_gan.saliency.marking import mark_photos, refine_by_colour
from saliency_gan.saliency.predictor import Predictor
from saliency_gan.saliency.validation import intersection_over_union
from tests.saliency.toys import disc, discs

EASY = AdaptConfig(threshold=0.45, min_confidence=0.0, min_agreement=0.0, min_area=0.0, max_area=1.0)


class Told(Predictor):
    """Answers with the views it was told, whatever the photos."""

    def __init__(self, views: np.ndarray) -> None:
        self.told, self.sides = views.astype(np.float32), (32,)

    def views(self, photos: object) -> np.ndarray:
        count = len(photos)  # type: ignore[arg-type]
        answer, self.told = self.told[:, :count], self.told[:, count:]
        return answer


def test_grabcut_finds_the_true_outline() -> None:
    image, mask = disc(0, 96)
    rough = np.full((96, 96), 0.05, np.float32)
    rough[cv2.dilate(mask, np.ones((21, 21))) > 0] = 0.3
    rough[cv2.erode(mask, np.ones((11, 11))) > 0] = 0.95
    assert intersection_over_union(rough >= 0.5, mask > 0) < 0.6
    refined = refine_by_colour(image, rough, rough >= 0.5, 0.9, 2)
    assert intersection_over_union(refined, mask > 0) > 0.97


def test_what_is_certain_stays() -> None:
    image, mask = disc(1, 64)
    saliency = np.full((64, 64), 0.3, np.float32)
    saliency[mask > 0] = 0.6
    saliency[2:14, 2:14] = 0.95  # dark noise like the rest of the ground
    refined = refine_by_colour(image, saliency, saliency >= 0.5, 0.9, 2)
    assert refined[4:12, 4:12].all()


@pytest.mark.parametrize("value", [0.1, 0.9])
def test_a_mask_without_outline_is_left_as_it_is(value: float) -> None:
    image, _ = disc(2)
    saliency = np.full((32, 32), value, np.float32)
    mask = saliency >= 0.5
    np.testing.assert_array_equal(refine_by_colour(image, saliency, mask, 0.9, 2), mask)


def test_a_mark_says_what_a_loop_says() -> None:
    views = np.random.default_rng(0).random((3, 1, 8, 8))
    photos, _ = discs(1)
    mark = mark_photos(Told(views), photos, replace(EASY, refine="none"))[0]
    views = views.astype(np.float32).astype(float)
    mean = views.mean(axis=0)[0]
    own = mean >= 0.45
    agreements = [(own & (view[0] >= 0.45)).sum() / (own | (view[0] >= 0.45)).sum() for view in views]
    assert mark.agreement == pytest.approx(np.mean(agreements), abs=1e-6)
    assert mark.confidence == pytest.approx(np.abs(2 * mean - 1).mean(), abs=1e-6)
    assert mark.area == pytest.approx(own.mean())
    assert mark.score == mark.agreement
    assert mark.mask is not None
    np.testing.assert_array_equal(mark.mask > 0, cv2.resize(mean, (32, 32)) >= 0.45)


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        ({}, [True, True, True]),
        ({"min_confidence": 0.2}, [True, False, True]),
        ({"min_agreement": 0.7}, [True, True, False]),
        ({"min_area": 0.3}, [False, True, True]),
        ({"max_area": 0.3}, [True, False, False]),
    ],
)
def test_each_limit_leaves_out_what_breaks_it(limit: dict[str, float], kept: list[bool]) -> None:
    small, unsure, torn = (np.full((2, 8, 8), 0.05) for _ in range(3))
    small[:, 2:6, 2:5] = 0.95
    unsure[:] = 0.43
    unsure[:, 1:7, 1:7] = 0.55
    torn[0, :, :4], torn[1, :, 2:] = 0.95, 0.98
    photos, _ = discs(3)
    marks = mark_photos(Told(np.stack([small, unsure, torn], axis=1)), photos, replace(EASY, refine="none", **limit))
    assert [mark.mask is not None for mark in marks] == kept
    assert all((mark.score > 0) is is_kept for mark, is_kept in zip(marks, kept, strict=True))


def test_a_refined_mask_that_left_the_object_is_not_taken() -> None:
    photo, _ = disc(3)
    wrong = np.where(np.arange(32)[None] < 12, 0.7, 0.3) * np.ones((32, 1))
    views = wrong[None, None]
    strict, lax = (
        mark_photos(Told(views), photo[None], replace(EASY, min_refined_iou=limit))[0] for limit in (0.9, 0.0)
    )
    assert strict.refined_iou == lax.refined_iou < 0.9
    np.testing.assert_array_equal(strict.mask > 0, wrong >= 0.5)
    assert lax.mask is not None
    assert not np.array_equal(lax.mask, strict.mask)


def test_marks_do_not_depend_on_batches_or_threads(trained: object) -> None:
    from saliency_gan.saliency.model import load_model

    photos, _ = discs(10, 50, 64)
    predictor = Predictor(load_model(trained / "saliency"), torch.device("cpu"))  # type: ignore[operator]
    once, twice = mark_photos(predictor, photos, EASY), mark_photos(predictor, photos, EASY, batch=3)
    for one, other in zip(once, twice, strict=True):
        assert intersection_over_union(one.mask > 0, other.mask > 0) > 0.99  # type: ignore[operator]
        assert one.refined_iou == pytest.approx(other.refined_iou, abs=0.02)
    for one, other in zip(once, mark_photos(predictor, photos, EASY), strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)  # type: ignore[arg-type]
