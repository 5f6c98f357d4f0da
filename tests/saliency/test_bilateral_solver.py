import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from saliency_gan.images.overlap import intersection_over_union
from saliency_gan.saliency.bilateral_solver import solve

SPATIAL, LUMA, CHROMA = 5.0, 16.0, 12.0


def yuv(colour: NDArray[np.uint8]) -> tuple[float, float, float]:
    """JPEG's Y, Cb and Cr of one pixel (ITU-T T.871)."""
    red, green, blue = (float(value) for value in colour)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402


def clear_of_cells(colour: NDArray[np.uint8]) -> bool:
    """Whether the colour lies in the same cell however it is rounded."""
    sides = (LUMA, CHROMA, CHROMA)
    return all(1.5 < value % side < side - 1.5 for value, side in zip(yuv(colour), sides, strict=True))


def solved_by_hand(
    image: NDArray[np.uint8], target: NDArray, confidence: NDArray, smoothness: float
) -> NDArray[np.float64]:
    """Barron and Poole 2016, eqs. 4 to 8 and the supplement's algorithm 1, with dense matrices in float64."""
    cells = []
    for y, x in np.ndindex(image.shape[:2]):
        luma, blue, red = yuv(image[y, x])
        cells.append((y // SPATIAL, x // SPATIAL, luma // LUMA, blue // CHROMA, red // CHROMA))
    vertices = list(dict.fromkeys(cells))
    splat = np.array([[float(cell == vertex) for cell in cells] for vertex in vertices])
    blur = np.zeros((len(vertices), len(vertices)))
    for (i, one), (j, other) in itertools.product(enumerate(vertices), repeat=2):
        distances = sorted(abs(a - b) for a, b in zip(one, other, strict=True))
        blur[i, j] = 10 if i == j else float(distances == [0, 0, 0, 0, 1])
    m = splat @ np.ones(len(cells))
    n = np.ones(len(vertices))
    for _ in range(1000):
        n = np.sqrt(n * m / (blur @ n))
    smooth = np.diag(m) - np.diag(n) @ blur @ np.diag(n)
    matrix = smoothness * smooth + np.diag(splat @ confidence.ravel())
    return (splat.T @ np.linalg.solve(matrix, splat @ (confidence * target).ravel())).reshape(target.shape)


@pytest.mark.parametrize("smoothness", [1.0, 256.0])
@pytest.mark.parametrize("size", [(12, 12), (7, 16)])
def test_the_solution_is_that_of_the_paper(size: tuple[int, int], smoothness: float) -> None:
    rng = np.random.default_rng(3)
    colours = np.array([colour for colour in rng.integers(90, 150, (999, 3), dtype=np.uint8) if clear_of_cells(colour)])
    image = colours[: size[0] * size[1]].reshape(*size, 3)
    target = rng.random(size, np.float32)
    confidence = rng.uniform(0.05, 1, size).astype(np.float32)
    solved = solve(
        image,
        target,
        confidence,
        sigma_spatial=SPATIAL,
        sigma_luma=LUMA,
        sigma_chroma=CHROMA,
        smoothness=smoothness,
        iterations=1000,
    )
    expected = solved_by_hand(image, target, confidence, smoothness)
    assert solved.dtype == np.float32 and np.ptp(expected) > 0.05
    np.testing.assert_allclose(solved, expected, atol=1e-4)


def two_colours(side: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A reddish disc on green, with noise, and where it is."""
    y, x = np.mgrid[:side, :side]
    truth = np.hypot(y - side * 0.55, x - side * 0.45) < side * 0.3
    image = np.where(truth[:, :, None], (190, 60, 50), (60, 150, 70))
    noise = np.random.default_rng(4).integers(-3, 4, (side, side, 1))
    return (image + noise).astype(np.uint8), truth


def test_a_noisy_mask_moves_to_the_colour_edge() -> None:
    image, truth = two_colours()
    rough = np.roll(truth, (4, -3), axis=(0, 1)) ^ (np.random.default_rng(5).random(truth.shape) < 0.1)
    solved = solve(image, rough.astype(np.float32)) >= 0.5
    assert intersection_over_union(rough, truth) < 0.75
    assert intersection_over_union(solved, truth) > 0.98


def test_a_constant_target_stays() -> None:
    image = np.random.default_rng(6).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_allclose(solve(image, np.full((40, 50), 0.3, np.float32)), 0.3, atol=1e-5)


def test_what_is_not_trusted_is_filled_by_its_colour() -> None:
    image, truth = two_colours()
    target, confidence = truth.astype(np.float32), np.ones(truth.shape, np.float32)
    wrong = np.zeros_like(truth)
    wrong[30:70, 20:50] = True  # both colours are in it
    target[wrong] = 1 - target[wrong]
    confidence[wrong] = 0
    assert {True, False} == set(truth[wrong].tolist())
    np.testing.assert_array_equal(solve(image, target, confidence) >= 0.5, truth)


def test_without_any_confidence_colours_still_smooth_the_target() -> None:
    image, truth = two_colours()
    solved = solve(image, truth.astype(np.float32), 0.0)
    assert np.isfinite(solved).all()
    np.testing.assert_array_equal(solved >= 0.5, truth)


def test_rounding_beyond_one_is_no_mistake() -> None:
    image, target = np.zeros((30, 30, 3), np.uint8), np.full((30, 30), np.nextafter(np.float32(1), np.float32(2)))
    np.testing.assert_array_equal(solve(image, target), np.ones((30, 30)))


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (130, 2)])
def test_thin_photos_are_solved(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 255, np.uint8)
    np.testing.assert_allclose(solve(image, np.full(size, 0.75, np.float32)), np.full(size, 0.75), atol=1e-5)


def test_the_threads_of_other_work_are_given_back() -> None:
    def threads() -> list[int]:
        return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]

    image, truth = two_colours()
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: solve(image, truth.astype(np.float32)), range(8)))
        assert threads() == before


IMAGE, TARGET = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32)


@pytest.mark.parametrize(
    ("image", "target", "confidence", "settings", "message"),
    [
        (IMAGE.astype(np.float32), TARGET, 1.0, {}, "has to be uint8"),
        (IMAGE[:, :, 0], TARGET, 1.0, {}, "has to be uint8"),
        (IMAGE[:0], TARGET[:0], 1.0, {}, "has to be uint8"),
        (IMAGE, TARGET.T, 1.0, {}, "of its size"),
        (IMAGE, TARGET, TARGET[:2], {}, "of its size"),
        (IMAGE, TARGET + 1.5, 1.0, {}, "target goes from 1.5"),
        (IMAGE, TARGET * np.nan, 1.0, {}, "target goes from nan"),
        (IMAGE, TARGET, -0.1, {}, "confidence goes from -0.1"),
        (IMAGE, TARGET, 1.0, {"sigma_luma": 0.5}, "sigmas are"),
        (IMAGE, TARGET, 1.0, {"smoothness": -1.0}, "smoothness is -1"),
        (IMAGE, TARGET, 1.0, {"iterations": 0}, "iterations 0"),
    ],
)
def test_what_cannot_be_solved_is_refused(
    image: NDArray, target: NDArray, confidence: float | NDArray, settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        solve(image, target, confidence, **settings)  # type: ignore[arg-type]
