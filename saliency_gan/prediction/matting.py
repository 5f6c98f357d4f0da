"""Matting by pymatting: the opacity of every pixel, and the object's colours without the background."""

import atexit
import os
import sys
import tempfile
import threading
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import shrink
from saliency_gan.prediction.guided_filter import GUIDED_SIDE, apply_coefficients, guided_coefficients
from saliency_gan.prediction.marked_photo import MarkedPhoto
from saliency_gan.prediction.strips import Stretched
from saliency_gan.storage.files import cache_folder

MATTING_SIDE = 384
"""Opacity is computed on the photo shrunk to this longer side, because time and memory grow with the unknown pixels."""
UNKNOWN = 0.05
"""Half the width of the unknown band along the mask's outline, as a share of the photo's longer side."""
UPSAMPLING_RADIUS = 6
"""Radius in pixels of the guided filter that upsamples opacity to GUIDED_SIDE; it is two pixels at MATTING_SIDE."""
SURE = 0.04
"""After guided upsampling, opacity that should be 0 or 1 can differ from it by this much."""

_one_at_a_time = threading.Lock()  # numba's default threading aborts the process if two threads use it at once


def import_pymatting() -> ModuleType:
    """Imports pymatting, which compiles its code for a minute or two at its first use on a machine.

    Raises:
        UserError: If it is not installed.
    """
    try:
        if "pymatting" not in sys.modules:
            os.environ.setdefault("NUMBA_CACHE_DIR", str(_compiled_folder()))
            print("loading pymatting, which takes minutes at its first use", file=sys.stderr)
        import pymatting
    except ImportError:
        raise UserError(
            "--refine matting needs the package pymatting: pip install 'saliency-gan[matting]', or use --refine guided."
        ) from None
    return pymatting


def _compiled_folder() -> Path:
    """Folder for numba's compiled code; a temporary folder of this process if the cache folder cannot be written.

    By default numba fails if neither the installed package nor the home folder can be written. numba runs the code that
    it finds in this folder, so other users must not be able to write to it.
    """
    folder = cache_folder() / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        own = tempfile.TemporaryDirectory(prefix="saliency-gan-")
        atexit.register(own.cleanup)
        return Path(own.name)


class MattedPhoto(MarkedPhoto):
    """Opacity by closed-form matting (Levin, Lischinski and Weiss 2008), colours by Germer et al. 2020.

    Pixels away from the outline of the model's mask keep opacity 0 or 1. The band around the outline is solved for at a
    limited size and upsampled to the photo's size by the guided filter. If the mask has no inside or no outside, or the
    solver does not converge, the opacity of the unrefined map is used.
    """

    def __init__(self, image: ImageArray, saliency: NDArray[np.float32], threshold: float) -> None:
        super().__init__(image, saliency, 0.5)
        guide = shrink(image, GUIDED_SIDE)
        ramp = MarkedPhoto(guide, saliency, threshold).opacity(slice(0, guide.shape[0]))
        solved = _solve(guide, ramp)
        if solved is None:
            solved = ramp
        coefficients = guided_coefficients(guide, solved, UPSAMPLING_RADIUS)
        self._coefficients = Stretched(coefficients, *image.shape[:2])
        opacity = _sure(apply_coefficients(coefficients.copy(), guide))
        colours = guide.astype(np.float32) / 255
        clean = colours
        if max(colours.shape[:2]) > 1:  # pymatting divides by the logarithm of the size
            with _one_at_a_time:
                clean = import_pymatting().estimate_foreground_ml(colours, opacity)
        self._correction = Stretched((clean - colours).astype(np.float32), *image.shape[:2])

    def saliency(self, rows: slice) -> NDArray[np.float32]:
        """Opacity of some rows, float32 [rows, W] in [0, 1]."""
        return _sure(apply_coefficients(self._coefficients.rows(rows), self.image[rows]))

    def opacity(self, rows: slice) -> NDArray[np.float32]:
        """Opacity of some rows, as in `saliency`."""
        return self.saliency(rows)

    def colours(self, rows: slice) -> ImageArray:
        """Colours of some rows without the background's colours, uint8 [rows, W, 3]."""
        corrected = self._correction.rows(rows) * 255
        corrected += self.image[rows]
        return corrected.round().clip(0, 255).astype(np.uint8)


def trimap_of(mask: NDArray[np.bool_], radius: int) -> NDArray[np.float64]:
    """The trimap of a mask, float64 [h, w]: 1 inside, 0 outside, and 0.5 within `radius` pixels of its outline.

    The photo's border is not an outline.
    """
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    inside, outside = (cv2.erode(side.astype(np.uint8), disc) > 0 for side in (mask, ~mask))
    trimap = np.full(mask.shape, 0.5)
    trimap[inside], trimap[outside] = 1, 0
    return trimap


def _solve(guide: ImageArray, ramp: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Opacity at the guide's size, float32 [h, w]; None if matting is not possible."""
    small = shrink(guide, MATTING_SIDE)
    height, width = small.shape[:2]
    mask = cv2.resize(ramp, (width, height), interpolation=cv2.INTER_AREA) >= 0.5
    trimap = trimap_of(mask, max(1, round(UNKNOWN * max(height, width))))
    if not {0.0, 0.5, 1.0} <= set(np.unique(trimap)):
        return None
    try:
        with _one_at_a_time, redirect_stdout(sys.stderr):  # pymatting prints warnings, and stdout may be a result
            alpha = import_pymatting().estimate_alpha_cf(small / 255.0, trimap)
    except ValueError:  # the solver does not converge
        return None
    if not np.isfinite(alpha).all():
        return None
    return Stretched(alpha.astype(np.float32), *guide.shape[:2]).rows(slice(0, guide.shape[0]))


def _sure(opacity: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((opacity - SURE) / (1 - 2 * SURE)).clip(0, 1)
