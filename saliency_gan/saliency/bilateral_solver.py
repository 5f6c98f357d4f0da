"""The fast bilateral solver: makes a map smooth where the photo's colours are smooth, with edges at the photo's edges.

Barron and Poole, "The Fast Bilateral Solver", ECCV 2016 (https://arxiv.org/abs/1511.03296).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import LinearOperator, cg
from threadpoolctl import ThreadpoolController

from saliency_gan.images import ImageArray

Values = NDArray[np.float64]

BISTOCHASTIC_ITERATIONS = 15
LEAST_CONFIDENCE = 1e-6
"""Smallest confidence of a pixel, so that there is one solution. A region without confidence keeps its target."""
ROUNDING = 1e-5
"""Values may be outside of [0, 1] by this much, because of interpolation."""
TOLERANCE = 1e-6
"""Conjugate gradients stop early when |residual| / |b| is below this."""


def solve(
    image: ImageArray,
    target: NDArray[np.float32],
    confidence: float | NDArray[np.float32] = 0.999,
    *,
    sigma_spatial: float = 24,
    sigma_luma: float = 4,
    sigma_chroma: float = 4,
    smoothness: float = 256,
    iterations: int = 25,
) -> NDArray[np.float32]:
    """Finds the map x that is near the target and smooth along the photo, by the fast bilateral solver.

    x minimises (lambda / 2) sum_ij W_ij (x_i - x_j)^2 + sum_i c_i (x_i - t_i)^2 (eq. 1), where W is bistochastic, and
    large for pixels that are near each other in place and colour. It is solved in a bilateral grid (eqs. 4 to 8):
    x = S^T y with A y = b, A = lambda (D_m - D_n B D_n) + diag(S c) and b = S (c t).

    Args:
        image: uint8 [H, W, 3], RGB.
        target: Target t of the map, float [H, W] in [0, 1].
        confidence: Weight c of each pixel's target, in [0, 1]: one number, or float [H, W].
        sigma_spatial: Side of a grid cell in pixels; all three sigmas are 1 or more.
        sigma_luma: Size of a grid cell in luma, which is 0 to 255.
        sigma_chroma: Size of a grid cell in each chroma channel, which is 0 to 255.
        smoothness: lambda, 0 or more.
        iterations: Largest number of steps of preconditioned conjugate gradients.

    Returns:
        float32 [H, W] in [0, 1].

    Raises:
        ValueError: If a shape or a value is not as above.
    """
    height, width = _checked_size(image, target, confidence)
    if not min(sigma_spatial, sigma_luma, sigma_chroma) >= 1:
        raise ValueError(f"The sigmas are {sigma_spatial}, {sigma_luma} and {sigma_chroma}, but have to be 1 or more.")
    if not 0 <= smoothness < np.inf or iterations < 1:
        raise ValueError(f"smoothness is {smoothness} and iterations {iterations}: they have to be >= 0 and >= 1.")
    vertices, neighbours = _grid(image, sigma_spatial, sigma_luma, sigma_chroma)
    count, dimensions = neighbours.shape[0], 5

    def splat(values: NDArray[np.floating]) -> Values:
        """S v: the sum of pixels at each vertex."""
        return np.bincount(vertices, values.ravel(), minlength=count).astype(np.float64, copy=False)

    def blur(values: Values) -> Values:
        """B y: [1, 2, 1] along each dimension, summed."""
        return 2 * dimensions * values + neighbours @ values

    n, m = _bistochastised(splat(np.ones(vertices.size)), blur)
    trust = np.maximum(np.broadcast_to(np.asarray(confidence, np.float64), (height, width)), LEAST_CONFIDENCE)
    trusted, b = splat(trust), splat(trust * target)
    matrix = LinearOperator(
        (count, count), lambda y: smoothness * (m * y - n * blur(n * y)) + trusted * y, dtype=np.float64
    )
    diagonal = smoothness * (m - 2 * dimensions * n * n) + trusted
    with _one_blas_thread():
        solved, _ = cg(matrix, b, b / trusted, rtol=TOLERANCE, maxiter=iterations, M=diags_array(1 / diagonal))
    return solved.clip(0, 1).astype(np.float32)[vertices].reshape(height, width)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """scipy's scalar products are too short for several BLAS threads, which would only wait for each other.

    The number is one for the whole process, so the last of several solvers sets it back.
    """
    with _limiting:
        _limits.append(_libraries().limit(limits=1, user_api="blas") if not _limits else _limits[0])
    try:
        yield
    finally:
        with _limiting:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()


_limiting = Lock()
_limits: list[Any] = []
"""The limit that was set, once for every solver at work."""


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # cached, because finding the libraries takes longer than solving


def _checked_size(
    image: ImageArray, target: NDArray[np.float32], confidence: float | NDArray[np.float32]
) -> tuple[int, int]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"The image is {image.dtype} {list(image.shape)}, but has to be uint8 [H, W, 3].")
    size = image.shape[:2]
    if target.shape != size or np.shape(confidence) not in ((), size):
        raise ValueError(
            f"Target and confidence are {list(target.shape)} and {list(np.shape(confidence))}, "
            f"but the image is {list(size)}: they have to be of its size."
        )
    for name, values in (("target", target), ("confidence", confidence)):
        if not (np.min(values) >= -ROUNDING and np.max(values) <= 1 + ROUNDING):
            raise ValueError(f"The {name} goes from {np.min(values)} to {np.max(values)}, but has to lie in [0, 1].")
    return size


def _bistochastised(pixels: Values, blur: Callable[[Values], Values]) -> tuple[Values, Values]:
    """Returns n and m with D_m^-1/2 D_n B D_n D_m^-1/2 nearly bistochastic (the supplement's algorithm 1).

    m is computed from the last n, so D_m - D_n B D_n maps constants to zero after any number of iterations.
    """
    n = np.ones_like(pixels)
    for _ in range(BISTOCHASTIC_ITERATIONS):
        n = np.sqrt(n * pixels / blur(n))
    return n, n * blur(n)


def _grid(
    image: ImageArray, sigma_spatial: float, sigma_luma: float, sigma_chroma: float
) -> tuple[NDArray[np.intp], csr_array]:
    """The simplified bilateral grid (section 2.1): pixels in the same cell of place and colour share a vertex.

    Returns:
        Vertex of each pixel, int [H * W]; and a symmetric 0/1 matrix with 1 for vertices that are one step apart in one
        of the five dimensions.
    """
    height, width = image.shape[:2]
    # YUV as in JPEG, rounded, so that all greys have the same chroma.
    luma, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    axes = (
        ((np.arange(height) / sigma_spatial).astype(np.int64)[:, None], height / sigma_spatial),
        ((np.arange(width) / sigma_spatial).astype(np.int64), width / sigma_spatial),
        ((np.arange(256) / sigma_luma).astype(np.int64)[luma], 256 / sigma_luma),
        ((np.arange(256) / sigma_chroma).astype(np.int64)[blue], 256 / sigma_chroma),
        ((np.arange(256) / sigma_chroma).astype(np.int64)[red], 256 / sigma_chroma),
    )
    key, steps = np.zeros((height, width), np.int64), list[int]()
    for place, extent in axes:
        cells = int(extent) + 2  # the last cell stays empty, so no step crosses the end
        key, steps = key * cells + place, [*(step * cells for step in steps), 1]
    keys, vertices = np.unique(key.ravel(), return_inverse=True)
    starts, ends = [], []
    for step in steps:
        end = np.searchsorted(keys, keys + step).clip(max=len(keys) - 1)
        found = keys[end] == keys + step
        starts.append(np.flatnonzero(found))
        ends.append(end[found])
    start, end = np.concatenate(starts), np.concatenate(ends)
    pairs = np.concatenate([start, end]), np.concatenate([end, start])
    return vertices, csr_array((np.ones(2 * len(start)), pairs), shape=(len(keys), len(keys)))
