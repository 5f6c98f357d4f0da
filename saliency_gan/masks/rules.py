"""Mask rules: they find the object's pixels from the brightness change of a shift along h_bg, or from units."""

from collections.abc import Sequence
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
"""The shifted images that a rule needs: +1 is G(z + h_bg, c), -1 is G(z - h_bg, c)."""


@dataclass(frozen=True)
class Evidence:
    """Inputs of the rules for a batch; an input that no rule needs is None.

    Attributes:
        plain: G(z, c), float [N, C, H, W] in [-1, 1].
        plus: G(z + h_bg, c), likewise.
        minus: G(z - h_bg, c), likewise.
        votes: The object's share of the painters' votes for each pixel, float [N, H, W] in [0, 1].
    """

    plain: Tensor | None = None
    plus: Tensor | None = None
    minus: Tensor | None = None
    votes: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """The picture to show beside the image: G(z + h_bg, c), else the votes as a grey image."""
        if self.plus is not None:
            return self.plus
        return 2 * _given(self.votes, "the votes of units")[:, None].expand(-1, 3, -1, -1) - 1

    def of(self, indices: Sequence[int]) -> "Evidence":
        """The inputs for some images of the batch."""
        parts = (self.plain, self.plus, self.minus, self.votes)
        return Evidence(*(None if part is None else part[list(indices)] for part in parts))


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
        rule: `threshold`, `lighting`, `difference`, `two-sided` or `units`; see the functions `threshold`, `lighting`
            (also for `difference`), `two_sided` and `units`.
        evidence: The inputs of the rule.
        theta: Brightness in [0, 1], or `otsu` for a separate value per image.
        margin: The background gains more than this brightness in [0, 1]; for `lighting` and `difference` with a fixed
            theta.
        polarity: Whether h_bg turns the background bright or dark. For dark, the rules see the negatives of the images,
            so the paper's rule becomes brightness > 1 - theta.
        votes: The object has more than this share of the votes; for `units` with a fixed theta.

    Returns:
        bool [N, H, W], true on the object.

    Raises:
        ValueError: If the evidence lacks an input of the rule.
    """
    above = None if theta == "otsu" else margin
    if rule == "units":
        return units(_given(evidence.votes, "the votes of units"), None if theta == "otsu" else votes)
    light = brightness(_given(evidence.plus, "G(z + h_bg, c)"), polarity)
    if rule == "threshold":
        return threshold(light, theta)
    if rule == "lighting":
        return lighting(brightness(_given(evidence.plain, "G(z, c)"), polarity), light, above)
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
    """Pixels that the shift makes brighter are background; the others are object.

    The published rule compares G(z) with G(z + h). Its h makes the object brighter, so it keeps the brighter pixels.
    h_bg makes the background brighter, so here the object is the other pixels.

    Args:
        before: Brightness of G(z, c) (`lighting`) or of G(z - h_bg, c) (`difference`), float [N, H, W] in [0, 1].
        after: Brightness of G(z + h_bg, c), likewise.
        margin: The background gains more than this. None separates small and large gains by Otsu in every image.

    Returns:
        bool [N, H, W], true on the object.
    """
    gain = after - before
    if margin is None:
        return threshold((gain + 1) / 2, "otsu")
    return gain <= margin


def two_sided(plus: Tensor, minus: Tensor, theta: Theta) -> Tensor:
    """A pixel is object if +h_bg does not turn it bright and -h_bg does not turn it dark.

    So background is removed even if only one of the two shifts clears it.

    Args:
        plus: Brightness of G(z + h_bg, c), float [N, H, W] in [0, 1].
        minus: Brightness of G(z - h_bg, c), likewise.
        theta: As in `threshold`; `minus` is compared with 1 - theta.

    Returns:
        bool [N, H, W], true on the object.
    """
    return threshold(plus, theta) & threshold(1 - minus, theta)


def units(votes: Tensor, above: float | None) -> Tensor:
    """The mask from the votes of units that paint the object or the background (GAN Dissection; the rule is ours).

    Args:
        votes: The object's share of the votes, float [N, H, W] in [0, 1], see `painters.Painters.votes`.
        above: The object has more than this share. None separates the shares by Otsu in every image.

    Returns:
        bool [N, H, W], true on the object.
    """
    if above is None:
        return ~threshold(votes, "otsu")
    return votes > above


def consensus(masks: Tensor, quorum: int | None) -> Tensor:
    """Combines the masks of several rules. A pixel is object if enough rules say so.

    Args:
        masks: bool [rules, N, H, W].
        quorum: Number of rules that have to agree; None for more than half. The number of all rules gives the
            intersection.

    Returns:
        bool [N, H, W].
    """
    return masks.sum(0) >= (len(masks) // 2 + 1 if quorum is None else quorum)


def _lower_group(values: Tensor) -> Tensor:
    """The darker of Otsu's two groups of grey levels in each image: bool [N, H, W] of float [N, H, W] in [0, 1]."""
    levels = values.mul(255).round().long().clamp(0, 255)
    highest, _ = otsu.split(otsu.histograms(levels, 256))
    return levels <= highest.to(levels.device)[:, None, None]
