"""Brightness of images: stage 1 scores directions with it, and stage 2 makes masks from it."""

from typing import Literal

from torch import Tensor

from saliency_gan.images.tensors import to_unit

Polarity = Literal["bright", "dark"]
"""Whether a direction makes the background bright or dark."""


def brightness(images: Tensor, polarity: Polarity = "bright") -> Tensor:
    """Mean over the colours, float [..., channels, H, W] in [-1, 1] -> [..., H, W] in [0, 1].

    If polarity is dark, the negatives are used, so that the background becomes bright in both cases.
    """
    colours = images.float().unbind(-3)
    light = to_unit(sum(colours[1:], colours[0]) / len(colours))  # twice as fast as mean() over interleaved colours
    return light if polarity == "bright" else 1 - light
