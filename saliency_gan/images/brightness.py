"""How bright images are: what stage 1 scores directions by and stage 2 makes masks of."""

from typing import Literal

from torch import Tensor

from saliency_gan.images.tensors import to_unit

Polarity = Literal["bright", "dark"]
"""What a direction turns the background into."""


def brightness(images: Tensor, polarity: Polarity = "bright") -> Tensor:
    """Mean over the colours, float [..., channels, H, W] in [-1, 1] -> [..., H, W] in [0, 1].

    Of the negatives where polarity is dark, so that the background turns bright either way.
    """
    colours = images.float().unbind(-3)
    light = to_unit(sum(colours[1:], colours[0]) / len(colours))  # twice as fast as mean() over interleaved colours
    return light if polarity == "bright" else 1 - light
