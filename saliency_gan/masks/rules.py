"""Mask rules: which pixels are the object, judged by what a shift along h_bg does to their brightness, or by units."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from saliency_gan.config import MaskRule
from saliency_gan.images import otsu
from saliency_gan.images.brightness import Polarity, brightness

Theta = float | Literal["otsu"]

SHIFTS: dict[MaskRule, tuple[int, ...]] = {
    "threshold": (+1,),
    "lighting": (+1,),
    "difference": (+1, -1),
    "two-sided": (+1, -1),
    "units": (),
}
"""The shifted images that a rule looks at: +1 is G(z + h_bg, c), -1 is G(z - h_bg, c)."""


@dataclass(frozen=True)
class Evidence:
    """What rules judge a batch by; None is what no rule asked for.

    Attributes:
        plain: G(z, c), float [N, C, H, W] in [-1, 1].
        plus: G(z + h_bg, c), likewise.
        minus: G(z - h_bg, c), likewise.
        votes: The object's share of the painters' votes, float [N, H, W] in [0, 1].
    """

    plain: Tensor
    plus: Tensor | None = None
    minus: Tensor | None = None
    votes: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """What people are shown of it beside the images: G(z + h_bg, c), or the votes as a grey image."""
        if self.plus is not None:
            return self.plus
        return self.plain if self.votes is None else 2 * self.votes[:, None].expand(-1, 3, -1, -1) - 1


def object_masks(
    rule: MaskRule,
    evidence: Evidence,
    theta: Theta = 0.9,
    margin: float = 0.0,
    polarity: Polarity = "bright",
    votes: float = 0.5,
) -> Tensor:
    """Applies a rule by name.

    Args:
        rule: `threshold`, `lighting`, `difference`, `two-sided` or `units`; see the functions of these names.
        evidence: What it looks at.
        theta: Brightness in [0, 1], or `otsu` for one an image.
        margin: Brightness in [0, 1] that the background gains at least; `lighting` and `difference` with a fixed theta.
        polarity: What h_bg turns the background into. A direction to dark is judged by the negatives of the images, so
            that the paper's rule becomes brightness > 1 - theta.
        votes: The object has more than this share of the votes; `units` with a fixed theta.

    Returns:
        bool [N, H, W], true on the object.

    Raises:
        ValueError: If the evidence lacks what the rule looks at.
    """
    above = None if theta == "otsu" else margin
    if rule == "units":
        return units(_given(evidence.votes, "the votes of units"), None if theta == "otsu" else votes)
    light = brightness(_given(evidence.plus, "G(z + h_bg, c)"), polarity)
    if rule == "threshold":
        return threshold(light, theta)
    if rule == "lighting":
        return lighting(brightness(evidence.plain, polarity), light, above)
    dimmed = brightness(_given(evidence.minus, "G(z - h_bg, c)"), polarity)
    if rule == "difference":
        return lighting(dimmed, light, above)
    return two_sided(light, dimmed, theta)


def _given(part: Tensor | None, name: str) -> Tensor:
    if part is None:
        raise ValueError(f"The rule looks at {name}, which was not drawn.")
    return part


def threshold(plus: Tensor, theta: Theta) -> Tensor:
    """The paper's rule: Mask(G(z, c)) = [G(z + h_bg, c) < theta] (Voynov & Babenko 2020, section 5).

    Args:
        plus: Brightness of G(z + h_bg, c), float [N, H, W] in [0, 1].
        theta: Brightness in [0, 1]; `otsu` takes the darker of Otsu's two groups.

    Returns:
        bool [N, H, W], true on the object.
    """
    return _lower_group(plus) if theta == "otsu" else plus < theta


def lighting(before: Tensor, after: Tensor, margin: float | None) -> Tensor:
    """What the shift lights up is background, the rest is object.

    The published rule compares G(z) with G(z + h) and keeps the side that the shift brightens, for its h lights the
    object up. Along h_bg it is the background that brightens, so the object is the other side.

    Args:
        before: Brightness of G(z, c) (`lighting`) or of G(z - h_bg, c) (`difference`), float [N, H, W] in [0, 1].
        after: Brightness of G(z + h_bg, c), likewise.
        margin: The background gains more than this; None separates small from large gains by Otsu in every image.

    Returns:
        bool [N, H, W], true on the object.
    """
    gain = after - before
    if margin is None:
        return threshold((gain + 1) / 2, "otsu")
    return gain <= margin


def two_sided(plus: Tensor, minus: Tensor, theta: Theta) -> Tensor:
    """Agreement of both signs: neither turned bright by +h_bg nor, mirrored, dark by -h_bg.

    Background that only one of the two shifts clears is removed all the same.

    Args:
        plus: Brightness of G(z + h_bg, c), float [N, H, W] in [0, 1].
        minus: Brightness of G(z - h_bg, c), likewise.
        theta: As in `threshold`; the other side is compared with 1 - theta.

    Returns:
        bool [N, H, W], true on the object.
    """
    return threshold(plus, theta) & threshold(1 - minus, theta)


def units(votes: Tensor, above: float | None) -> Tensor:
    """What units say that paint the object or the background (GAN Dissection; the rule is ours).

    Args:
        votes: The object's share of their votes, float [N, H, W] in [0, 1], see `painters.Painters.votes`.
        above: The object has more than this share; None separates the shares by Otsu in every image.

    Returns:
        bool [N, H, W], true on the object.
    """
    if above is None:
        return ~threshold(votes, "otsu")
    return votes > above


def consensus(masks: Tensor, quorum: int | None) -> Tensor:
    """What enough of several rules call object.

    Args:
        masks: bool [rules, N, H, W].
        quorum: Rules that have to agree; None for more than half of them. All of them give the intersection.

    Returns:
        bool [N, H, W].
    """
    return masks.sum(0) >= (len(masks) // 2 + 1 if quorum is None else quorum)


def _lower_group(values: Tensor) -> Tensor:
    """The darker of Otsu's two groups of grey levels in each image: bool [N, H, W] of float [N, H, W] in [0, 1]."""
    levels = values.mul(255).round().long().clamp(0, 255)
    highest, _ = otsu.split(otsu.histograms(levels, 256))
    return levels <= highest.to(levels.device)[:, None, None]
