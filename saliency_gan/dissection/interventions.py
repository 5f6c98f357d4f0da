"""Switches units off and on, and measures the effect on a concept: ACE (Bau et al. 2019, section 3.2)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.dissection.sampling import images_at_once
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator

Measure = Callable[[Tensor], Tensor]
"""Images [N, channels, H, W] -> how much of a concept each of them shows, float [N] in [0, 1]."""
GRADIENT_BATCHES, ALPHA_BATCH = 4, 8
"""The first gradient of delta is averaged over this many batches of this many images."""
LAMBDA = 0.5
"""lambda of `optimise_alpha`, as a share of the length of the first gradient."""


@contextmanager
def edited(generator: Generator, layer: str, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A context in which `edit` changes a layer's features before the generator continues with them.

    Args:
        generator: G.
        layer: Name in `generator.feature_layers`.
        edit: Features [N, units, h, w] -> features of the same shape.

    Raises:
        UserError: If there is no such layer.
    """
    layers = generator.feature_layers
    if layer not in layers:
        raise UserError(f"{generator.name} has no layer {layer!r}: its layers are {', '.join(layers) or 'none'}.")
    handle = layers[layer].register_forward_hook(lambda _module, _inputs, features: edit(features))
    try:
        yield
    finally:
        handle.remove()


def setting(units: Sequence[int] | Tensor, levels: Tensor, region: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """An edit that sets units to given levels: f(0, r_rest) ablates them, f(k, r_rest) inserts them.

    Args:
        units: Numbers of the units.
        levels: 0 or k of each unit, float [len(units)].
        region: P as weights in [0, 1], resized to the features: float [N, H, W] with one region for each image, or
            [1, H, W] for all of them; None means everywhere.

    Raises:
        UserError: If the features have no such unit (raised when the edit is applied).
    """
    chosen = torch.as_tensor(units, dtype=torch.int64)

    def edit(features: Tensor) -> Tensor:
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < features.shape[1]:
            raise UserError(
                f"There are no units {sorted(chosen.tolist())} among {features.shape[1]}: give 0 to"
                f" {features.shape[1] - 1}."
            )
        alpha = torch.zeros(features.shape[1]).index_fill(0, chosen, 1.0)
        target = torch.zeros(features.shape[1]).index_put((chosen,), levels.float().cpu())
        return blend(features, alpha.to(features), target.to(features), region)

    return edit


def blend(features: Tensor, alpha: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
    """(1 - alpha) r + alpha k inside the region, r outside it: the paper's continuous intervention.

    Args:
        features: r, float [N, units, h, w].
        alpha: How much of each unit is replaced, float [units] in [0, 1].
        target: k, float [units].
        region: As for `setting`.
    """
    weight = alpha[:, None, None]
    if region is not None:
        weight = weight * F.interpolate(region[:, None].to(features), features.shape[-2:], mode="area")
    return features + weight * (target[:, None, None] - features)


@dataclass(frozen=True)
class Effect:
    """An average causal effect.

    Attributes:
        ace: delta = E[s_c(x with the units inserted)] - E[s_c(x with them ablated)].
        low: Lower end of its 95 % bootstrap interval over the images.
        high: Upper end of this interval.
        images: The difference for each image, float [N]; a single value if only all images together have one.
    """

    ace: float
    low: float
    high: float
    images: Tensor


def causal_effect(
    generator: Generator,
    layer: str,
    units: Sequence[int] | Tensor,
    levels: tuple[Tensor, Tensor],
    measure: Measure,
    latents: Tensor,
    classes: Tensor,
    region: Tensor | None = None,
) -> Effect:
    """Measures the ACE of a set of units on a concept.

    Args:
        generator: G, frozen.
        layer: Name in `generator.feature_layers`.
        units: Numbers of the units. Without any unit the effect is 0.
        levels: The values for ablating and for inserting all units of the layer (0 and k in the paper), float [units]
            each.
        measure: s_c.
        latents: z, float [N, latent_dim].
        classes: c, int64 [N].
        region: As for `setting`.
    """
    chosen = torch.as_tensor(units, dtype=torch.int64)
    shown = []
    for level in levels:
        parts = []
        for rows in torch.arange(len(latents), device=latents.device).split(images_at_once(generator)):
            edit = setting(chosen, level.cpu()[chosen], _regions_of(region, rows))
            with torch.no_grad(), edited(generator, layer, edit):
                parts.append(measure(generator(latents[rows], classes[rows])).cpu())
        shown.append(torch.cat(parts))
    return effect_of(shown[1] - shown[0])


def _regions_of(region: Tensor | None, rows: Tensor) -> Tensor | None:
    return region if region is None or len(region) == 1 else region[rows.to(region.device)]


def effect_of(differences: Tensor) -> Effect:
    """Mean of the images' differences [N] and its bootstrap interval, from 1,000 samples with a fixed random seed."""
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(differences), (1000, len(differences)), generator=random)
    low, high = differences[drawn].mean(1).double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Effect(float(differences.mean()), low, high, differences)


def optimise_alpha(
    generator: Generator,
    layer: str,
    start: Tensor,
    levels: tuple[Tensor, Tensor],
    measure: Measure,
    latents: Tensor,
    classes: Tensor,
    region: Tensor | None = None,
    steps: int = 60,
    rate: float = 0.01,
) -> Tensor:
    """alpha* = argmin -delta(alpha) + lambda |alpha|_2 over [0, 1]^units, by projected Adam.

    lambda is half of |d delta / d alpha|_2 at the start. The gradient of |alpha|_2 has length 1 unless alpha is
    0. So alpha = 0 is a minimum if lambda is larger than the length of delta's gradient, and the values of alpha on the
    way there are noise. lambda is not a constant, because a concept that fills a tenth of the image has a tenth of the
    gradient.

    Args:
        generator: G, frozen.
        layer: Name in `generator.feature_layers`.
        start: Initial alpha, float [units]; in the paper it is IoU_u,c / max_v IoU_v,c.
        levels: As for `causal_effect`.
        measure: A differentiable s_c.
        latents: z to train on, float [N, latent_dim], used in turn.
        classes: c of each of them, int64 [N].
        region: As for `setting`.
        steps: Steps of Adam.
        rate: Learning rate of Adam; the authors' code has 0.01.

    Returns:
        alpha, float [units] in [0, 1]; the larger, the more the unit matters.
    """
    alpha = start.clone().float().to(latents.device).requires_grad_()
    off, on = (level.to(latents.device).float() for level in levels)

    def delta(step: int) -> Tensor:
        rows = torch.arange(step * ALPHA_BATCH, (step + 1) * ALPHA_BATCH, device=latents.device) % len(latents)
        where = _regions_of(region, rows)
        means = []
        for target in (on, off):
            with edited(generator, layer, lambda features, k=target: blend(features, alpha, k, where)):  # type: ignore[misc]
                means.append(measure(generator(latents[rows], classes[rows])).mean())
        return means[0] - means[1]

    gradients = [torch.autograd.grad(delta(step), alpha)[0] for step in range(GRADIENT_BATCHES)]
    penalty = LAMBDA * torch.stack(gradients).mean(0).norm()
    optimiser = torch.optim.Adam([alpha], lr=rate)
    for step in range(steps):
        loss = penalty * alpha.norm() - delta(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            alpha.clamp_(0, 1)
    return alpha.detach().cpu()
