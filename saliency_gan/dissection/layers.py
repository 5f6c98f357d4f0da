"""Finds which concepts the units of each layer agree with: thresholds on some images, the IoU on others."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saliency_gan.dissection.concepts import ConceptSource
from saliency_gan.dissection.painting import Painting
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.dissection.units import MIN_QUALITY, AgreementCounts, JointCounts, threshold_candidates
from saliency_gan.runs.random_streams import Stream, random_stream

TOP_IMAGES = 5
LOOKED_AT = 64
"""Number of images whose activations give the candidates for thresholds."""
LOOKED_SIDE = 64
"""Activations at more positions than this along a side are taken at regular distances, which saves memory."""


@dataclass(frozen=True)
class DissectedLayer:
    """The results for one layer.

    Attributes:
        units: The entry of every unit in dissection.json.
        iou: IoU of every unit with every concept, float64 [units, concepts].
        quality: I / H of every unit with every concept, of the same shape.
        present: Mean activation of every unit where each concept is, of the same shape.
        absent: Mean activation of every unit where each concept is not, of the same shape.
    """

    units: list[dict[str, Any]]
    iou: Tensor
    quality: Tensor
    present: Tensor
    absent: Tensor

    def levels(self, concept: int) -> tuple[Tensor, Tensor]:
        """The values of the units when they are ablated and when they are inserted, float [units] each.

        The paper uses 0 and k, the mean where the concept is. Features of residual blocks may be negative, and 0 may be
        in the middle of a unit's range. If a unit's mean outside the concept is negative, the unit is off at this mean.
        """
        return self.absent[:, concept].clamp(max=0).float(), self.present[:, concept].float()


def dissect_layers(
    sampler: Sampler,
    concepts: ConceptSource,
    images: int,
    min_iou: float,
    seed: int,
    painting: Painting | None = None,
) -> dict[str, DissectedLayer]:
    """Chooses thresholds on some images and measures the IoU on as many others.

    Args:
        sampler: Draws images and features.
        concepts: The concepts to look for.
        images: Number of images in each of the two halves.
        min_iou: A unit with at most this IoU has no concept.
        seed: Random seed of the bootstrap samples.
        painting: Chooses its painters on the first half of the images, and is measured on the second half.

    Returns:
        Layer -> its results.
    """
    candidates = {
        layer: threshold_candidates(features) for layer, features in _look(sampler, min(LOOKED_AT, images)).items()
    }
    joint = {layer: JointCounts(some, len(concepts.names)) for layer, some in candidates.items()}
    sums = {
        layer: torch.zeros(len(some), len(concepts.names), dtype=torch.float64) for layer, some in candidates.items()
    }
    pixels = {layer: torch.zeros(len(concepts.names), dtype=torch.float64) for layer in candidates}
    whole = {layer: torch.zeros(len(some), dtype=torch.float64) for layer, some in candidates.items()}
    places: Counter[str] = Counter()
    strongest: dict[str, list[Tensor]] = {layer: [] for layer in candidates}
    for seen in sampler.batches(0, images, "choosing thresholds"):
        where = concepts(seen.images)
        for layer, features in seen.features.items():
            joint[layer].add(features, where)
            small = torch.nn.functional.interpolate(where.float(), features.shape[-2:], mode="area")
            sums[layer] += torch.einsum("nuhw,nchw->uc", features, small).cpu().double()
            pixels[layer] += small.sum((0, 2, 3)).cpu().double()
            whole[layer] += features.sum((0, 2, 3)).cpu().double()
            places[layer] += features[:, 0].numel()
            strongest[layer].append(features.amax((2, 3)).cpu())
    best = {layer: counts.best_thresholds() for layer, counts in joint.items()}
    if painting:
        painting.choose(joint)
    agreements = {
        layer: AgreementCounts(candidates[layer], chosen, random_stream(seed, Stream.UNIT_INTERVALS))
        for layer, (chosen, _) in best.items()
    }
    for seen in sampler.batches(images, images, "measuring the IoU"):
        where = concepts(seen.images)
        for layer, features in seen.features.items():
            agreements[layer].add(features, where)
        if painting:
            painting.add(seen.features, where)
    found = {}
    for layer, (chosen, quality) in best.items():
        result = agreements[layer].result()
        top = torch.cat(strongest[layer]).topk(min(TOP_IMAGES, images), dim=0).indices.T.tolist()
        present = sums[layer] / pixels[layer].clamp(min=1e-6)
        absent = (whole[layer][:, None] - sums[layer]) / (places[layer] - pixels[layer]).clamp(min=1e-6)
        found[layer] = DissectedLayer([], result.iou, quality, present, absent)
        for unit, concept in enumerate(quality.argmax(1).tolist()):
            named = bool(result.iou[unit, concept] > min_iou and quality[unit, concept] > MIN_QUALITY)
            off, on = found[layer].levels(concept)
            found[layer].units.append(
                {
                    "unit": unit,
                    "concept": concepts.names[concept] if named else None,
                    "kind": concepts.kinds[concept] if named else None,
                    "iou": float(result.iou[unit, concept]),
                    "low": float(result.low[unit, concept]),
                    "high": float(result.high[unit, concept]),
                    "quality": float(quality[unit, concept]),
                    "threshold": float(candidates[layer][unit, chosen[unit, concept]]),
                    "off": float(off[unit]),
                    "on": float(on[unit]),
                    "top_images": top[unit],
                }
            )
    return found


def _look(sampler: Sampler, images: int) -> dict[str, Tensor]:
    """Activations of every layer on a few images, float [N, units, h, w] with h and w at most LOOKED_SIDE."""
    found: defaultdict[str, list[Tensor]] = defaultdict(list)
    for seen in sampler.batches(0, images, "looking"):
        for layer, features in seen.features.items():
            step = -(-features.shape[-1] // LOOKED_SIDE)
            found[layer].append(features[..., ::step, ::step].clone())
    return {layer: torch.cat(parts) for layer, parts in found.items()}
