"""Artifact units: images look more real without them (Bau et al. 2019, section 4.3)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency_gan.config import DissectConfig
from saliency_gan.dissection.effects import SHOWN, counts_up_to, random_sets
from saliency_gan.dissection.interventions import Effect, edited, effect_of, setting
from saliency_gan.dissection.realism import (
    FeatureDistance,
    Realism,
    find_discriminator,
    frechet_inception_distance,
    read_photos,
)
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8
from saliency_gan.images.writing import write_image
from saliency_gan.saliency.model import SaliencyModel

FIRST_RANKED_IMAGE, FIRST_VERIFIED_IMAGE = 3_000_000, 4_000_000
CANDIDATES = 2
"""Units that are ablated one by one, as a multiple of the number of units that are searched for."""


def measure_artifacts(
    config: DissectConfig, sampler: Sampler, model: SaliencyModel, folder: Path
) -> dict[str, Any] | None:
    """Looks for the units whose ablation improves realism most, and verifies them on other images.

    Realism is nearness to the photos. Without photos it is the output of the generator's discriminator. That measure is
    weaker, because the discriminator was trained against this generator alone. Every unit of every layer gets a
    first-order score, - sum_P r d realism / d r, from one backward pass. The search takes the layer whose best units
    have the highest scores. It ablates these units one by one, and sorts them by the lower end of the interval of their
    improvement. Then it ablates them together, best first. The artifact units are the number of units for which the
    lower end is highest. There are none if this lower end is not above 0.

    Args:
        config: `real`, `artifact_images`, `units` and `fid_weights` are read.
        sampler: Draws images. All of its layers are searched.
        model: Saliency model; the features of its encoder are compared.
        folder: Folder that artifacts.png is written into.

    Returns:
        The value of "artifacts" in dissection.json: layer, units, images, ranked_by, candidates (unit, first_order,
        improvement with low and high), curve (units, improvement, low, high) and verified (measure -> before, after,
        random, improvement, low, high). None if there is neither a discriminator nor a folder of photos.
    """
    critic = find_discriminator(config.choice.name, config.choice.weights, sampler.fabric.device)
    photos = read_photos(config.real, sampler.generator.resolution) if config.real else None
    distance = None if photos is None else FeatureDistance(model.to(sampler.fabric.device), photos)
    if distance is not None:
        numbers = range(FIRST_RANKED_IMAGE, FIRST_RANKED_IMAGE + config.artifact_images)
        realism, name = distance.witness(_images(sampler, "", [], *sampler.subjects(numbers))), "feature distance"
    elif critic is not None:
        realism, name = critic, "discriminator"
    else:
        print(f"no artifact units: there is no discriminator beside {config.choice.name}, and --real names no photos")
        return None
    found = _rank(config, sampler, realism, distance)
    found["ranked_by"] = name
    (folder / "artifacts.png").unlink(missing_ok=True)  # of an earlier run
    found["verified"] = _verify(config, sampler, found, critic, distance, photos, folder) if found["units"] else {}
    return found


def first_order(sampler: Sampler, realism: Realism, latents: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Estimates to first order how much more real images would be without each unit.

    Returns:
        Layer -> the mean over the images of - sum_P r d realism / d r, float [units].
    """
    modules = sampler.generator.feature_layers
    sums: dict[str, Tensor] = {}
    for some, kinds in _parts(sampler, latents, classes):
        kept: dict[str, Tensor] = {}

        def keep(layer: str, features: Tensor, kept: dict[str, Tensor] = kept) -> Tensor:
            kept[layer] = features if features.requires_grad else features.requires_grad_()
            return features

        handles = [
            modules[layer].register_forward_hook(
                lambda _module, _inputs, output, layer=layer, keep=keep: keep(layer, output)
            )
            for layer in sampler.layers
        ]
        try:
            score = realism(sampler.generator(some, kinds), kinds).sum()
        finally:
            for handle in handles:
                handle.remove()
        gradients = torch.autograd.grad(score, list(kept.values()))
        for (layer, features), gradient in zip(kept.items(), gradients, strict=True):
            change = -(features.detach() * gradient).sum((0, 2, 3)).cpu() / len(latents)
            sums[layer] = sums.get(layer, torch.zeros_like(change)) + change
    return sums


def _rank(
    config: DissectConfig, sampler: Sampler, realism: Realism, distance: FeatureDistance | None
) -> dict[str, Any]:
    numbers = range(FIRST_RANKED_IMAGE, FIRST_RANKED_IMAGE + config.artifact_images)
    latents, classes = sampler.subjects(numbers)
    promised = first_order(sampler, realism, latents, classes)
    # At most half of a layer, because no image is left if all of its units are off.
    wanted = {layer: min(config.units, max(1, len(scores) // 2)) for layer, scores in promised.items()}
    layer = max(promised, key=lambda one: float(promised[one].topk(wanted[one]).values.clamp(min=0).sum()))
    before = _images(sampler, layer, [], latents, classes)
    decrease = None if distance is None else distance.decrease_from(before)

    @torch.no_grad()
    def improvement(units: Sequence[int]) -> Effect:
        after = _images(sampler, layer, units, latents, classes)
        if decrease is not None:  # not its witness: when many images move in the same direction, they pass the photos
            return decrease(after)
        scores = (realism(two, c) - realism(one, c) for one, two, c in _parts(sampler, before, after, classes))
        return effect_of(torch.cat(list(scores)).cpu())

    best = promised[layer].topk(min(CANDIDATES * wanted[layer], len(promised[layer]))).indices.tolist()
    alone = {unit: improvement([unit]) for unit in best}
    ranking = sorted(best, key=lambda unit: -alone[unit].low)  # the most certain improvement first
    curve = {count: improvement(ranking[:count]) for count in counts_up_to(wanted[layer])}
    chosen = max(curve, key=lambda count: curve[count].low)
    chosen = chosen if curve[chosen].low > 0 else 0
    return {
        "layer": layer,
        "units": ranking[:chosen],
        "images": len(latents),
        "candidates": [
            {"unit": unit, "first_order": float(promised[layer][unit]), **_interval(alone[unit])} for unit in ranking
        ],
        "curve": [{"units": count, **_interval(effect)} for count, effect in curve.items()],
    }


def _with_random(values: dict[str, float]) -> dict[str, float]:
    """A measure of the images before, after, and on average without random units."""
    random = [value for name, value in values.items() if name.startswith("random")]
    return {"before": values["before"], "after": values["after"], "random": sum(random) / len(random)}


def _interval(effect: Effect) -> dict[str, float]:
    return {"improvement": effect.ace, "low": effect.low, "high": effect.high}


@torch.no_grad()
def _verify(
    config: DissectConfig,
    sampler: Sampler,
    found: dict[str, Any],
    critic: Realism | None,
    distance: FeatureDistance | None,
    photos: ImageArray | None,
    folder: Path,
) -> dict[str, Any]:
    """Measures realism without the units on twice as many other images, and without as many random units."""
    numbers = range(FIRST_VERIFIED_IMAGE, FIRST_VERIFIED_IMAGE + 2 * config.artifact_images)
    latents, classes = sampler.subjects(numbers)
    layer, units = found["layer"], found["units"]
    total = sampler.draw([numbers[0]]).features[layer].shape[1]
    before = _images(sampler, layer, [], latents, classes)
    after = _images(sampler, layer, units, latents, classes)
    sets: dict[str, Sequence[int]] = {"before": [], "after": units}
    sets |= {f"random {number}": some for number, some in enumerate(random_sets(config.seed, total, len(units)))}
    scores: dict[str, Tensor] = {}
    distances: dict[str, float] = {}
    inception: dict[str, float] = {}
    for name, some in sets.items():  # one set of images in memory at a time, beside before and after
        images = {"before": before, "after": after}.get(name)
        images = _images(sampler, layer, some, latents, classes) if images is None else images
        if critic is not None:
            scores[name] = torch.cat([critic(*part) for part in _parts(sampler, images, classes)]).cpu()
        if distance is not None:
            distances[name] = distance.distance(images)
        if config.fid_weights is not None and photos is not None and name in ("before", "after", "random 0"):
            inception[name] = frechet_inception_distance(photos, images, config.fid_weights)
    verified = {}
    if scores:
        means = {name: float(values.mean()) for name, values in scores.items()}
        verified["discriminator"] = _with_random(means) | _interval(effect_of(scores["after"] - scores["before"]))
    if distance is not None:
        verified["feature distance"] = _with_random(distances) | _interval(distance.decrease_from(before)(after))
    if inception:
        verified["FID"] = _with_random(inception) | {"improvement": inception["before"] - inception["after"]}
    changed = (after - before).abs().mean((1, 2, 3)).topk(min(SHOWN, len(before))).indices
    write_image(folder / "artifacts.png", grid(to_uint8(torch.cat([before[changed], after[changed]])), len(changed)))
    return verified


@torch.no_grad()
def _images(sampler: Sampler, layer: str, units: Sequence[int], latents: Tensor, classes: Tensor) -> Tensor:
    """Images without some units of a layer, float [N, channels, H, W]."""
    parts = _parts(sampler, latents, classes)
    if not units:
        return torch.cat([sampler.generator(*part) for part in parts])
    with edited(sampler.generator, layer, setting(units, torch.zeros(len(units)))):
        return torch.cat([sampler.generator(*part) for part in parts])


def _parts(sampler: Sampler, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Splits tensors with one row per image, because memory limits the images at once."""
    return zip(*(some.split(sampler.batch) for some in rows), strict=True)
