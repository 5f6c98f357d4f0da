from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from saliency_gan.config import AdaptConfig, MarkRefinement, TrainStudentConfig
from saliency_gan.images import ImageArray
from saliency_gan.images.overlap import intersection_over_union
from saliency_gan.saliency.bilateral_solver import solve
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.predictor import Predictor
from saliency_gan.training.marking import Mark, MarkedPhotos, grabcut, mark_photos, refine_by_colour
from saliency_gan.training.photos import Photos, compress
from tests.saliency.exported import save_tiny
from tests.saliency.toys import disc, discs

EASY = AdaptConfig(min_confidence=0.0, min_agreement=0.0, min_area=0.0, max_area=1.0, mark_side=32)


class Told(Predictor):
    """Answers with the views it was told, whatever the photos."""

    def __init__(self, views: np.ndarray) -> None:
        self.told, self.sides = views.astype(np.float32), (32,)

    def views(self, photos: object) -> np.ndarray:
        count = len(photos)  # type: ignore[arg-type]
        answer, self.told = self.told[:, :count], self.told[:, count:]
        return answer


def photos_of(images: ImageArray) -> Photos:
    return Photos([compress(image) for image in images], images.shape[1])


def rough_map(mask: ImageArray) -> np.ndarray:
    """A map that is sure of the middle of a disc and far too large around it."""
    rough = np.full(mask.shape, 0.05, np.float32)
    rough[cv2.dilate(mask, np.ones((21, 21))) > 0] = 0.55
    rough[cv2.erode(mask, np.ones((11, 11))) > 0] = 0.95
    return rough


@pytest.mark.parametrize("refine", ["grabcut", "solver"])
def test_refinement_finds_the_true_outline(refine: MarkRefinement) -> None:
    image, mask = disc(0, 96)
    rough = rough_map(mask)
    refined = refine_by_colour(image, rough, 0.5, refine, replace(EASY, grabcut_certainty=0.9))
    assert intersection_over_union(rough >= 0.5, mask > 0) < 0.6
    assert intersection_over_union(refined, mask > 0) > {"grabcut": 0.97, "solver": 0.93}[refine]


def test_the_solver_is_asked_for_the_smoothness_that_was_set() -> None:
    image, mask = disc(4, 64)
    rough = rough_map(mask)
    for smoothness in (1.0, 300.0):
        refined = refine_by_colour(image, rough, 0.4, "solver", replace(EASY, solver_smoothness=smoothness))
        np.testing.assert_array_equal(refined, solve(image, rough, smoothness=smoothness) >= 0.4)


def test_what_is_certain_stays() -> None:
    image, mask = disc(1, 64)
    saliency = np.full((64, 64), 0.3, np.float32)
    saliency[mask > 0] = 0.6
    saliency[2:14, 2:14] = 0.95  # dark noise like the rest of the ground
    assert grabcut(image, saliency, 0.5, certainty=0.9, iterations=2)[4:12, 4:12].all()


@pytest.mark.parametrize("value", [0.1, 0.9])
def test_a_mask_without_outline_is_left_as_it_is(value: float) -> None:
    image, _ = disc(2)
    saliency = np.full((32, 32), value, np.float32)
    np.testing.assert_array_equal(grabcut(image, saliency, 0.5, 0.95, 2), saliency >= 0.5)


@pytest.mark.parametrize(("threshold", "certainty", "values"), [(0.02, 0.95, (0.01, 0.03)), (0.9, 0.5, (0.6, 0.95))])
def test_certainty_may_leave_one_label_only(threshold: float, certainty: float, values: tuple[float, float]) -> None:
    image, mask = disc(2)
    saliency = np.where(mask > 0, values[1], values[0]).astype(np.float32)
    np.testing.assert_array_equal(grabcut(image, saliency, threshold, certainty, 2), mask > 0)


def test_a_mark_says_what_a_loop_says() -> None:
    views = np.random.default_rng(0).random((3, 1, 8, 8))
    (mark,) = mark_photos(Told(views), photos_of(discs(1)[0]), 0.45, "none", EASY)
    views = views.astype(np.float32).astype(float)
    mean = views.mean(axis=0)[0]
    own = mean >= 0.45
    agreements = [(own & (view[0] >= 0.45)).sum() / (own | (view[0] >= 0.45)).sum() for view in views]
    assert mark.agreement == pytest.approx(np.mean(agreements), abs=1e-6)
    assert mark.confidence == pytest.approx(np.abs(2 * mean - 1).mean(), abs=1e-6)
    assert mark.area == pytest.approx(own.mean())
    assert (mark.refined_iou, mark.left_out) == (1, "")
    assert mark.score == mark.agreement
    np.testing.assert_array_equal(mark.mask, np.where(cv2.resize(mean, (32, 32)) >= 0.45, 255, 0))


@pytest.mark.parametrize(
    ("limit", "reasons"),
    [
        ({}, ["", "", ""]),
        ({"min_confidence": 0.2}, ["", "unsure", ""]),
        ({"min_agreement": 0.7}, ["", "", "views differ"]),
        ({"min_area": 0.3}, ["too small", "", ""]),
        ({"max_area": 0.3}, ["", "too large", "too large"]),
        ({"min_area": 0.3, "min_confidence": 0.2, "min_agreement": 0.7}, ["too small", "unsure", "views differ"]),
    ],
)
def test_each_limit_leaves_out_what_breaks_it(limit: dict[str, float], reasons: list[str]) -> None:
    small, unsure, torn = (np.full((2, 8, 8), 0.05) for _ in range(3))
    small[:, 2:6, 2:5] = 0.95
    unsure[:] = 0.43
    unsure[:, 1:7, 1:7] = 0.55
    torn[0, :, :4], torn[1, :, 2:] = 0.95, 0.98
    views = np.stack([small, unsure, torn], axis=1)
    marks = list(mark_photos(Told(views), photos_of(discs(3)[0]), 0.45, "none", replace(EASY, **limit)))
    assert [mark.left_out for mark in marks] == reasons
    for mark, reason in zip(marks, reasons, strict=True):
        assert (mark.score > 0) is (not reason) is bool(mark.file)
        assert 0 < mark.confidence < 1 and 0 < mark.area <= 1


def test_masks_have_the_side_that_was_asked_for_and_are_small_files() -> None:
    image, mask = disc(5, 64)
    views = np.where(cv2.resize(mask, (32, 32)) > 127, 0.9, 0.1)[None, None]
    (mark,) = mark_photos(Told(views), photos_of(image[None]), 0.5, "none", replace(EASY, mark_side=128))
    assert mark.mask.shape == (128, 128) and set(np.unique(mark.mask)) == {0, 255}
    assert intersection_over_union(mark.mask > 0, cv2.resize(mask, (128, 128)) > 127) > 0.9
    assert len(mark.file) < 128 * 128 / 20


def test_a_refined_mask_that_left_the_object_is_not_taken() -> None:
    photo, _ = disc(3)
    wrong = np.where(np.arange(32)[None] < 12, 0.7, 0.3) * np.ones((32, 1))
    strict, lax = (
        next(
            mark_photos(
                Told(wrong[None, None]),
                photos_of(photo[None]),
                0.5,
                "grabcut",
                replace(EASY, min_refined_iou=limit),
            )
        )
        for limit in (0.9, 0.0)
    )
    assert strict.refined_iou == lax.refined_iou < 0.9
    assert strict.score == strict.refined_iou * strict.agreement
    np.testing.assert_array_equal(strict.mask > 0, wrong >= 0.5)
    assert not np.array_equal(lax.mask, strict.mask)


def test_marked_photos_are_those_that_were_kept_with_their_masks() -> None:
    images, masks = discs(4, side=32)
    files = [cv2.imencode(".png", cv2.resize(mask, (16, 16), interpolation=0))[1].tobytes() for mask in masks]
    marks = [Mark(file, 0.9, 0.9, 0.2, 1.0) for file in files]
    marks[1] = Mark(b"", 0.1, 0.9, 0.2, 0.0, "unsure")
    marked = MarkedPhotos(photos_of(images), marks)
    assert len(marked) == 3
    pairs = marked.subset([2, 0, 2])
    assert pairs.images.shape == (3, 32, 32, 3) and pairs.masks.shape == (3, 32, 32)
    for pair, source in enumerate((3, 0, 3)):
        assert np.abs(pairs.images[pair].astype(int) - images[source]).mean() < 12  # noise suffers most from JPEG
        np.testing.assert_array_equal(pairs.masks[pair], cv2.resize(marks[source].mask, (32, 32)))
        assert intersection_over_union(pairs.masks[pair] >= 128, masks[source] > 0) > 0.8
        assert len(np.unique(pairs.masks[pair])) > 2  # edges are soft


def test_marks_do_not_depend_on_batches_or_threads(tmp_path: Path) -> None:
    config = TrainStudentConfig(min_confidence=0.0, min_agreement=0.0, min_area=0.0, max_area=1.0, mark_side=64)
    photos = photos_of(discs(10, 50, 64)[0])
    save_tiny(tmp_path)
    predictor = Predictor(load_model(tmp_path), torch.device("cpu"))
    once = list(mark_photos(predictor, photos, 0.5, "grabcut", config))
    for one, other in zip(once, mark_photos(predictor, photos, 0.5, "grabcut", config, batch=3), strict=True):
        assert intersection_over_union(one.mask > 0, other.mask > 0) > 0.99
        assert one.refined_iou == pytest.approx(other.refined_iou, abs=0.02)
    assert once == list(mark_photos(predictor, photos, 0.5, "grabcut", config))


def test_nothing_is_marked_where_there_is_no_photo() -> None:
    assert list(mark_photos(Told(np.zeros((1, 0, 8, 8))), Photos([], 32), 0.5, "none", EASY)) == []
