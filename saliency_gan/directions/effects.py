"""Measures without labels what a direction changes in the image."""

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
"""Effect -> its meaning. All effects are changes per unit of z, for images in [0, 1]."""


def measure_effects(minus: Tensor, plus: Tensor, distance: float) -> dict[str, Tensor]:
    """Compares two images per sample that differ in one dimension of z.

    Args:
        minus: G(z - h, c), float [N, channels, H, W] in [-1, 1].
        plus: G(z + h, c), likewise.
        distance: Distance between both z along the dimension.

    Returns:
        Name in EFFECTS -> change per unit of z, float [N]. Changes that are not absolute have a sign.
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
    """Finds the main effect of each dimension, and how selective the dimension is.

    Args:
        effects: Dimension -> effect -> size of the change per unit of z, of any sign; `pixels` is ignored.

    Returns:
        Dimension -> its main effect and its selectivity. Each effect is first divided by the largest size of this
        effect over all dimensions. The selectivity is the main effect's share of the sum of the dimension's effects: 1
        if the dimension changes nothing else, 0.2 if it changes all five equally.
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
