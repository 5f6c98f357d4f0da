"""What `dissect` switches: the units that agree with a concept best, against random ones and those that alpha finds."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saliency_gan import images as im
from saliency_gan.config import DissectConfig
from saliency_gan.dissection.concepts import ConceptSource, Saliency
from saliency_gan.dissection.interventions import (
    Effect,
    Measure,
    causal_effect,
    edited,
    effect_of,
    optimise_alpha,
    setting,
)
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.runs import random_stream

if TYPE_CHECKING:
    from saliency_gan.dissection.dissect import DissectedLayer

STREAM_CONTROL = 82
FIRST_EFFECT_IMAGE, FIRST_ALPHA_IMAGE = 1_000_000, 2_000_000
"""Images on which units are switched; none of them was looked at before."""
SHOWN = 8


def _centre() -> Tensor:
    """The inner half of the width and of the height."""
    region = torch.zeros(8, 8)
    region[2:6, 2:6] = 1.0
    return region


REGIONS: dict[str, Callable[[], Tensor | None]] = {"everywhere": lambda: None, "centre": _centre}
"""P, where units are switched."""


def measure_interventions(
    config: DissectConfig,
    sampler: Sampler,
    saliency: Saliency,
    concepts: ConceptSource,
    dissected: dict[str, "DissectedLayer"],
    folder: Path,
) -> dict[str, Any]:
    """Measures the ACE of the best 1, 2, 5, ... units and of random ones, and draws images without and with them.

    Returns:
        What dissection.json says under "interventions": layer, concept, the rows of the curve (units, ace, low, high,
        random_ace, margin, margin_low, margin_high), the units in the order of their IoU, and alpha's order.
    """
    index = concepts.names.index(config.concept)
    layer = config.layer or max(
        dissected, key=lambda name: float(_top(dissected[name].quality[:, index], config.units))
    )
    agreement, levels = dissected[layer].quality[:, index], dissected[layer].levels(index)
    region = REGIONS[config.region]()
    measure = _measure(config.concept, saliency, concepts)
    latents, classes = sampler.subjects(range(FIRST_EFFECT_IMAGE, FIRST_EFFECT_IMAGE + config.effect_images))
    ranking = agreement.argsort(descending=True, stable=True)
    control = torch.randperm(len(agreement), generator=random_stream(config.seed, STREAM_CONTROL))
    rows = []
    for count in _counts(min(config.units, len(agreement))):
        both = [
            causal_effect(sampler.generator, layer, some[:count], levels, measure, latents, classes, region)
            for some in (ranking, control)
        ]
        rows.append({"units": count, **_row(*both)})
    found = {"layer": layer, "concept": config.concept, "images": config.effect_images, "curve": rows}
    found["by_agreement"] = ranking[: config.units].tolist()
    if config.alpha_steps and config.concept in Saliency.names:
        start = dissected[layer].iou[:, index].float()
        start = start / start.max().clamp(min=1e-6)
        subjects = sampler.subjects(range(FIRST_ALPHA_IMAGE, FIRST_ALPHA_IMAGE + 256))
        alpha = optimise_alpha(sampler.generator, layer, start, levels, measure, *subjects, region, config.alpha_steps)
        order = alpha.argsort(descending=True, stable=True)[: config.units]
        effect = causal_effect(sampler.generator, layer, order, levels, measure, latents, classes, region)
        found["by_alpha"] = order.tolist()
        others = causal_effect(
            sampler.generator, layer, control[: len(order)], levels, measure, latents, classes, region
        )
        found["alpha"] = _row(effect, others)
    chosen = ranking[: config.units]
    picture = _picture(sampler, layer, chosen, levels, latents[:SHOWN], classes[:SHOWN], region)
    im.write_image(folder / "interventions.png", picture)
    return found


def _row(effect: Effect, control: Effect) -> dict[str, float]:
    """An effect beside that of random units on the same images."""
    margin = effect_of(effect.images - control.images)
    return {
        **{name: getattr(effect, name) for name in ("ace", "low", "high")},
        "random_ace": control.ace,
        "margin": margin.ace,
        "margin_low": margin.low,
        "margin_high": margin.high,
    }


def _measure(concept: str, saliency: Saliency, concepts: ConceptSource) -> Measure:
    """The share of the image that is the concept: soft where the saliency model says it, so that it has a gradient."""
    if concept == "salient object":
        return lambda images: saliency.soft(images).mean((1, 2))
    if concept == "background":
        return lambda images: 1 - saliency.soft(images).mean((1, 2))
    index = concepts.names.index(concept)
    return lambda images: concepts(images)[:, index].float().mean((1, 2))


def _counts(largest: int) -> list[int]:
    return [*(count for count in (1, 2, 5, 10, 20, 50, 100) if count < largest), largest]


def _top(agreement: Tensor, count: int) -> Tensor:
    return agreement.topk(min(count, len(agreement))).values.mean()


@torch.no_grad()
def _picture(
    sampler: Sampler,
    layer: str,
    units: Tensor,
    levels: tuple[Tensor, Tensor],
    latents: Tensor,
    classes: Tensor,
    region: Tensor | None,
) -> im.ImageArray:
    """Three rows: the images, the same with the units ablated, the same with them inserted."""
    rows = [sampler.generator(latents, classes)]
    for level in levels:
        with edited(sampler.generator, layer, setting(units, level[units], region)):
            rows.append(sampler.generator(latents, classes))
    return im.grid(im.to_uint8(torch.cat(rows)), len(latents))
