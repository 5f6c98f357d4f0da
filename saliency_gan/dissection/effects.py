"""The units that `dissect` switches: those that agree best with a concept, those that alpha finds, and random ones."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency_gan.config import DissectConfig
from saliency_gan.dissection.concepts import ConceptSource
from saliency_gan.dissection.interventions import (
    Effect,
    causal_effect,
    edited,
    effect_of,
    optimise_alpha,
    setting,
)
from saliency_gan.dissection.layers import DissectedLayer
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8
from saliency_gan.images.writing import write_image
from saliency_gan.runs.random_streams import Stream, random_stream

ALPHA_IMAGES = 256
FIRST_EFFECT_IMAGE, FIRST_ALPHA_IMAGE = 1_000_000, 2_000_000
"""Numbers of the first images for switching units and for alpha; nothing before used these images."""
OTHER_IMAGES = 500_000
"""Distance from these numbers to those of the images that regions come from."""
SHOWN = 8
CONTROLS = 3
"""Number of sets of random units; their effects are averaged."""
SMALLEST_REGION = 0.01
"""Masks that cover less than this share of their image do not become regions."""


def regions(config: DissectConfig, sampler: Sampler, concepts: ConceptSource, images: range) -> Tensor | None:
    """P, where the units of these images are switched, for `interventions.setting`; None means everywhere.

    With `masks`, the region of each image is the mask that the concept has in another, randomly drawn image.

    Args:
        config: `region` and `concept`.
        sampler: Draws the other images.
        concepts: Where the concept is.
        images: Numbers of the images whose units are switched.

    Raises:
        UserError: If the concept is in none of the other images.
    """
    if config.region == "everywhere":
        return None
    if config.region == "centre":  # the inner half of the width and of the height
        centre = torch.zeros(1, 8, 8)
        centre[:, 2:6, 2:6] = 1.0
        return centre
    others = range(images.start + OTHER_IMAGES, images.stop + OTHER_IMAGES)
    index = concepts.names.index(config.concept)
    masks = torch.cat([
        concepts(seen.images)[:, index].float().cpu()
        for seen in sampler.batches(others.start, len(others), "drawing the regions")
    ])  # fmt: skip
    masks = masks[masks.mean((1, 2)) >= SMALLEST_REGION]
    if not len(masks):
        raise UserError(
            f"{config.concept} is in none of {len(others)} images, so no region can be drawn: choose --region centre or"
            " another --concept."
        )
    random = random_stream(config.seed, Stream.REGIONS, images.start)
    return masks[torch.randint(len(masks), (len(images),), generator=random)]


def measure_interventions(
    config: DissectConfig,
    sampler: Sampler,
    concepts: ConceptSource,
    dissected: dict[str, DissectedLayer],
    folder: Path,
) -> dict[str, Any]:
    """Measures the ACE of the best 1, 2, 5, ... units and of random ones, and draws images without and with them.

    Returns:
        The value of "interventions" in dissection.json: layer, concept, the rows of the curve (units, ace, low, high,
        random_ace, margin, margin_low, margin_high), by_agreement (the units in the order of their agreement), and the
        same for the order by alpha (alpha, by_alpha).
    """
    index = concepts.names.index(config.concept)
    layer = config.layer or max(
        dissected, key=lambda name: float(_top(dissected[name].quality[:, index], config.units))
    )
    agreement, levels = dissected[layer].quality[:, index], dissected[layer].levels(index)
    measure = partial(concepts.share, concept=index)
    numbers = range(FIRST_EFFECT_IMAGE, FIRST_EFFECT_IMAGE + config.effect_images)
    latents, classes = sampler.subjects(numbers)
    region = regions(config, sampler, concepts, numbers)

    def effect(units: Sequence[int] | Tensor) -> Effect:
        return causal_effect(sampler.generator, layer, units, levels, measure, latents, classes, region)

    def control(count: int) -> Tensor:
        sets = random_sets(config.seed, len(agreement), count)
        return torch.stack([effect(units).images for units in sets]).mean(0)

    ranking = agreement.argsort(descending=True, stable=True)
    counts = counts_up_to(min(config.units, len(agreement)))
    controls = {count: control(count) for count in counts}
    rows = [{"units": count, **_row(effect(ranking[:count]), controls[count])} for count in counts]
    found = {"layer": layer, "concept": config.concept, "images": config.effect_images, "curve": rows}
    found["by_agreement"] = ranking[: config.units].tolist()
    if config.alpha_steps and config.concept in concepts.graded:
        start = dissected[layer].iou[:, index].float()
        start = start / start.max().clamp(min=1e-6)
        numbers = range(FIRST_ALPHA_IMAGE, FIRST_ALPHA_IMAGE + ALPHA_IMAGES)
        alpha = optimise_alpha(
            sampler.generator,
            layer,
            start,
            levels,
            measure,
            *sampler.subjects(numbers),
            regions(config, sampler, concepts, numbers),
            config.alpha_steps,
        )
        order = alpha.argsort(descending=True, stable=True)
        found["by_alpha"] = order[: config.units].tolist()
        found["alpha"] = [
            {"units": count, "smallest": float(alpha[order[count - 1]]), **_row(effect(order[:count]), controls[count])}
            for count in counts
        ]
    chosen = ranking[: config.units]
    shown_region = region if region is None else region[:SHOWN]
    picture = _picture(sampler, layer, chosen, levels, latents[:SHOWN], classes[:SHOWN], shown_region)
    write_image(folder / "interventions.png", picture)
    return found


def random_sets(seed: int, total: int, count: int) -> list[list[int]]:
    """Draws CONTROLS random sets of `count` of `total` units; a smaller set is part of the larger one."""
    streams = (random_stream(seed, Stream.RANDOM_UNITS, number) for number in range(CONTROLS))
    return [torch.randperm(total, generator=random)[:count].tolist() for random in streams]


def counts_up_to(largest: int) -> list[int]:
    """The numbers of units that are switched together: 1, 2, 5, 10, ... and `largest` itself."""
    return [*(count for count in (1, 2, 5, 10, 20, 50, 100) if count < largest), largest]


def _row(effect: Effect, control: Tensor) -> dict[str, float]:
    """An effect, and its margin over that of random units on the same images, float [N]."""
    margin = effect_of(effect.images - control)
    return {
        **{name: getattr(effect, name) for name in ("ace", "low", "high")},
        "random_ace": float(control.mean()),
        "margin": margin.ace,
        "margin_low": margin.low,
        "margin_high": margin.high,
    }


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
) -> ImageArray:
    """Three rows: the images, the same with the units ablated, the same with them inserted."""
    rows = [sampler.generator(latents, classes)]
    for level in levels:
        with edited(sampler.generator, layer, setting(units, level[units], region)):
            rows.append(sampler.generator(latents, classes))
    return grid(to_uint8(torch.cat(rows)), len(latents))
