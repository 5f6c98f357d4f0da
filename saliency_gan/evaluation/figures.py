"""Pictures of an evaluation: curves, and sheets of photo, mask and map."""

import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from saliency_gan.evaluation.measuring import Example
from saliency_gan.evaluation.metrics import Curves, Map
from saliency_gan.evaluation.scoring import fit
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid

TILE = 128
CAPTION = 18


def curves_picture(title: str, curves: Mapping[str, Curves]) -> bytes:
    """Plots precision against recall, and F against the threshold, one line per method; PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    thresholds = np.linspace(0, 1, 256)
    for number, curve in enumerate(curves.values()):
        style = {"linewidth": 2.2 if number == 0 else 1.3, "zorder": 3 if number == 0 else 2}
        left.plot(curve.recall, curve.precision, **style)
        right.plot(thresholds, curve.f, **style)
    left.set(xlabel="recall", ylabel="precision", title="precision and recall")
    right.set(xlabel="threshold of the stretched map", ylabel="F (beta² = 0.3)", title="F by threshold")
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
    for text in right.legend(right.lines, list(curves), fontsize=8).get_texts():
        text.set_parse_math(False)
    figure.suptitle(title, parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def sheet(examples: Sequence[Example], maps: Sequence[Map], captions: Sequence[str], columns: int = 3) -> ImageArray:
    """Photo (if there is one), mask and map of each example side by side, with a caption above them.

    Args:
        examples: The examples to show.
        maps: Their saliency maps, uint8 or float in [0, 1].
        captions: One line of text for each example.
        columns: Number of examples in a row.

    Returns:
        uint8 [H, W, 3].
    """
    return grid(
        [_strip(*one) for one in zip(examples, maps, captions, strict=True)], min(columns, len(examples)), gap=8
    )


def _strip(example: Example, saliency: Map, caption: str) -> ImageArray:
    saliency = fit(saliency, example.truth.shape)
    grey = saliency if saliency.dtype == np.uint8 else np.round(saliency * 255)
    shown = [_coloured(example.truth * 255), _coloured(grey)]
    if example.photo is not None:
        shown.insert(0, example.photo)
    tiles = grid([_tile(image) for image in shown], len(shown))
    label = np.full((CAPTION, tiles.shape[1], 3), 255, np.uint8)
    ascii_caption = caption.encode("ascii", "replace").decode()  # OpenCV's fonts have no others
    cv2.putText(label, ascii_caption, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([label, tiles])


def _coloured(grey: np.ndarray) -> ImageArray:
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def _tile(image: ImageArray) -> ImageArray:
    """Fits an image into a grey square."""
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    tile = np.full((TILE, TILE, 3), 225, np.uint8)
    top, left = (TILE - small.shape[0]) // 2, (TILE - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile
