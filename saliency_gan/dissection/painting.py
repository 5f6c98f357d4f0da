"""The painters of the rule `units` of `masks`: units that vote together where a concept is, and their accuracy."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saliency_gan.dissection.units import MIN_QUALITY, AgreementCounts, JointCounts
from saliency_gan.results.painters import Painter, Painters
from saliency_gan.runs.random_streams import Stream, random_stream


class Painting:
    """The painters of a concept, chosen on some images and measured on others.

    Args:
        concept: Name of the concept.
        index: Index of the concept among all concepts.
        count: Largest number of painters in all layers together.
        seed: Random seed of the bootstrap samples.
    """

    def __init__(self, concept: str, index: int, count: int, seed: int) -> None:
        self.concept, self.index, self.count = concept, index, count
        self.painters: Painters | None = None
        self._random = random_stream(seed, Stream.PAINTERS)
        self._agreement: AgreementCounts | None = None

    def choose(self, joint: Mapping[str, JointCounts]) -> None:
        """Chooses the units with the highest I / H for the concept, or for the area where the concept is not.

        Args:
            joint: Layer -> counts over the images for choosing thresholds.
        """
        found = []
        for layer, counts in joint.items():
            for paints, some in (("object", counts), ("background", counts.complement())):
                chosen, quality = some.best_thresholds()
                for unit, (place, value) in enumerate(zip(chosen[:, self.index], quality[:, self.index], strict=True)):
                    threshold = float(counts.candidates[unit, place])
                    found.append(Painter(layer, unit, paints, threshold, float(value)))  # type: ignore[arg-type]
        found = sorted((one for one in found if one.quality > MIN_QUALITY), key=lambda one: -one.quality)
        once = {(one.layer, one.unit): one for one in reversed(found)}  # the better of its two
        best = [one for one in found if once[one.layer, one.unit] is one][: self.count]
        self.painters = Painters(self.concept, tuple(best)) if best else None

    def add(self, features: Mapping[str, Tensor], concepts: Tensor) -> None:
        """Counts how the votes agree with the concept on other images; arguments as for `JointCounts.add`, by layer."""
        if self.painters is None:
            return
        votes = self.painters.votes(features, concepts.shape[-1])[:, None]
        if self._agreement is None:
            half = torch.full((1, 1), 0.5, device=votes.device)
            self._agreement = AgreementCounts(half, torch.zeros(1, 1, dtype=torch.int64), self._random)
        self._agreement.add(votes, concepts[:, self.index, None])

    def to_plain(self) -> dict[str, Any] | None:
        """The value of `painters` in dissection.json: the units, and the IoU of their vote with its interval.

        The vote marks the pixels for which the concept has more than half of the votes. None if no unit agrees with
        the concept.
        """
        if self.painters is None or self._agreement is None:
            return None
        agreement = self._agreement.result()
        measured = {name: float(getattr(agreement, name)) for name in ("iou", "low", "high")}
        return {**measured, **self.painters.to_plain()}
