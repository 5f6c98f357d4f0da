"""What a direction changes in the image, measured without labels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from saliency_gan.directions.criteria import border, centre, gradient_magnitude
from saliency_gan.images.brightness import brightness
from saliency_gan.images.tensors import to_unit

EFFECTS = {
    "brightness": "mean brightness of the image",
    "colour": "mean absolute change of the colours beside their brightness",
    "border": "mean brightness of the outermost eighth of each side",
    "centre": "mean brightness of the inner half of the width and of the height",
    "edges": "mean gradient magnitude, in brightness a pixel",
    "pixels": "mean absolute change of a colour value",
}
"""What is measured, each in the units of an image in [0, 1], a unit of z."""


def measure_effects(minus: Tensor, plus: Tensor, distance: float) -> dict[str, Tensor]:
    """Compares two images a sample that differ in one dimension of z.

    Args:
        minus: G(z - h, c), float [N, channels, H, W] in [-1, 1].
        plus: G(z + h, c), likewise.
        distance: How far they lie apart along the dimension.

    Returns:
        For every name in EFFECTS the change a unit of z, float [N]; those that are not absolute carry a sign.
    """
    before, after = brightness(minus), brightness(plus)
    hues = [to_unit(images) - grey[:, None] for images, grey in ((minus, before), (plus, after))]
    changes = {
        "brightness": (after - before).mean((-1, -2)),
        "colour": (hues[1] - hues[0]).abs().mean((-1, -2, -3)),
        "border": (border(after) - border(before)).mean(-1),
        "centre": (centre(after) - centre(before)).mean((-1, -2)),
        "edges": (gradient_magnitude(after) - gradient_magnitude(before)).mean((-1, -2)),
        "pixels": (to_unit(plus) - to_unit(minus)).abs().mean((-1, -2, -3)),
    }
    return {name: change / distance for name, change in changes.items()}


def selectivities(effects: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[str, float]]:
    """What each dimension changes above all, and how much it leaves the rest alone.

    Args:
        effects: Dimension -> effect -> size of the change a unit of z, of any sign; `pixels` plays no part.

    Returns:
        Dimension -> its main effect, and the share of that in all its effects, each taken relative to the dimension
        that has most of it: 1 for a dimension that changes nothing else, 0.2 for one that changes the five alike.
    """
    kinds = [name for name in EFFECTS if name != "pixels"]
    most = {kind: max(abs(values[kind]) for values in effects.values()) for kind in kinds}
    found = {}
    for dimension, values in effects.items():
        relative = {kind: abs(values[kind]) / most[kind] if most[kind] > 0 else 0.0 for kind in kinds}
        main = max(relative, key=lambda kind: relative[kind])
        total = sum(relative.values())
        found[dimension] = (main, relative[main] / total if total > 0 else 0.0)
    return found


def mean_and_spread(values: Tensor) -> tuple[float, float]:
    """Mean and standard deviation over the samples."""
    return float(values.mean()), float(torch.std(values, correction=0))
