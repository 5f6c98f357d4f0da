import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from saliency_gan.config.predict import EdgeRefinement
from saliency_gan.images.layout import shrink
from saliency_gan.prediction import strips
from saliency_gan.prediction.guided_filter import GUIDED_SIDE, GuidedPhoto, apply_coefficients, guided_coefficients
from saliency_gan.prediction.marked_photo import MarkedPhoto
from saliency_gan.prediction.refinement import refine
from saliency_gan.prediction.solving import SOLVER_SIDE, SolvedPhoto


def reflected(index: int, size: int) -> int:
    return -index if index < 0 else 2 * (size - 1) - index if index >= size else index


def guided_by_hand(guide: NDArray[np.uint8], values: NDArray[np.float32], radius: int, epsilon: float) -> NDArray:
    """He, Sun and Tang 2013, eqs. 14 to 16, window by window in float64."""
    height, width = values.shape
    image = guide / 255.0
    steps = range(-radius, radius + 1)

    def window(array: NDArray, y: int, x: int) -> NDArray:
        around = itertools.product(steps, steps)
        return np.array([array[reflected(y + dy, height), reflected(x + dx, width)] for dy, dx in around])

    slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        colours, inside = window(image, y, x), window(values.astype(np.float64), y, x)
        covariance = np.cov(colours.T, bias=True) + epsilon * np.eye(3)
        with_value = (colours * inside[:, None]).mean(0) - colours.mean(0) * inside.mean()
        slopes[y, x] = np.linalg.solve(covariance, with_value)
        offsets[y, x] = inside.mean() - slopes[y, x] @ colours.mean(0)
    filtered = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        filtered[y, x] = window(slopes, y, x).mean(0) @ image[y, x] + window(offsets, y, x).mean()
    return filtered.clip(0, 1)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2])
def test_guided_filter_is_that_of_the_paper(epsilon: float) -> None:
    rng = np.random.default_rng(1)
    guide = rng.integers(0, 256, (11, 14, 3), dtype=np.uint8)
    values = rng.random((11, 14), np.float32)
    filtered = apply_coefficients(guided_coefficients(guide, values, 2, epsilon), guide)
    np.testing.assert_allclose(filtered, guided_by_hand(guide, values, 2, epsilon), atol=2e-4)


def scene(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32]]:
    """A red box on green, its mask, and a coarse map of it whose edge is off."""
    truth = np.zeros((height, width), bool)
    truth[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = True
    image = np.where(truth[:, :, None], (200, 40, 40), (40, 160, 60)).astype(np.uint8)
    noise = np.random.default_rng(2).integers(0, 8, image.shape, dtype=np.uint8)
    coarse = np.zeros((16, 16), np.float32)
    coarse[4:12, 4:12] = 1
    coarse = np.roll(coarse, 1, axis=1) * 0.5 + coarse * 0.5
    return image + noise, truth, coarse


def errors_of(method: EdgeRefinement, image: NDArray[np.uint8], truth: NDArray, coarse: NDArray[np.float32]) -> float:
    photo = refine(image, coarse, 0.4, method)
    return float(((photo.saliency(slice(0, len(image))) >= photo.threshold) != truth).mean())


@pytest.mark.parametrize("method", ["guided", "solver"])
def test_refined_edges_are_the_photos(method: EdgeRefinement) -> None:
    image, truth, coarse = scene(160, 240)
    stretched = errors_of("none", image, truth, coarse)
    assert stretched > 0.03 and errors_of(method, image, truth, coarse) < stretched / 2


def test_solved_edges_of_a_large_photo_are_the_photos() -> None:
    assert errors_of("solver", *scene(800, 3 * SOLVER_SIDE)) < 0.002


def test_large_photos_are_done_in_strips_to_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    image, truth, coarse = scene(900, GUIDED_SIDE + 300)
    for kind in (MarkedPhoto, GuidedPhoto, SolvedPhoto):
        photo = kind(image, coarse, 0.6)
        whole = photo.saliency(slice(0, 900))
        monkeypatch.setattr(strips, "STRIP_PIXELS", 50_000)
        parts = np.concatenate([photo.saliency(rows) for rows in strips.strips(900, image.shape[1])])
        np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert ((whole >= 0.6) == truth).mean() > 0.97


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2000, 3)])
@pytest.mark.parametrize("kind", [GuidedPhoto, SolvedPhoto])
def test_thin_and_flat_photos_have_finite_saliency(kind: type[MarkedPhoto], size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    saliency = kind(image, np.full((32, 32), 0.25, np.float32), 0.5).saliency(slice(0, size[0]))
    np.testing.assert_allclose(saliency, np.full(size, 0.25), atol=1e-4)


def test_shrinking_keeps_the_shape_and_small_photos() -> None:
    image = np.zeros((30, 90, 3), np.uint8)
    assert shrink(image, 90) is image
    assert shrink(image, 30).shape == (10, 30, 3)
    assert shrink(np.zeros((1, 90, 3), np.uint8), 30).shape == (1, 30, 3)


def test_opacity_is_a_ramp_around_the_threshold() -> None:
    saliency = np.array([[0.5, 0.6, 0.63, 0.8]], np.float32)
    photo = MarkedPhoto(np.zeros((1, 4, 3), np.uint8), saliency, 0.6)
    np.testing.assert_allclose(photo.opacity(slice(0, 1)), [[0, 0.5, 0.74, 1]], atol=1e-6)
