"""Checks the layers of an EigenGAN: how important each dimension is, and how much it changes the image."""

import torch
from torch import Tensor

from saliency_gan.generators.eigengan import EigenGAN

DEAD_CHANGE = 0.002
"""A layer is dead if each of its dimensions changes the image by less than this per unit of z."""
AT_ONCE = 128
"""Images that are drawn at once."""
TAKES_ALL = 0.9
"""One dimension dominates its layer if its share of the layer's |L| is above this."""


@torch.no_grad()
def layer_health(generator: EigenGAN, latents: Tensor, classes: Tensor) -> dict[str, float]:
    """Measures every dimension z_ij.

    Args:
        generator: G, on the device of the other arguments.
        latents: z, float [N, latent_dim].
        classes: c, int64 [N].

    Returns:
        Two values for every dimension, with names as in `own_directions`: `importance_L1D1` is |L_ij|, and
        `change_L1D1` is the mean absolute change of G(z, c), in the units of [-1, 1], when z_ij grows by one.
    """
    parts = list(zip(latents.split(AT_ONCE), classes.split(AT_ONCE), strict=True))
    plain = [generator(some, kinds) for some, kinds in parts]
    found = {}
    for name, direction in generator.own_directions.items():
        moved = (generator(some + direction.to(latents), kinds) for some, kinds in parts)
        sums = [float((after - before).abs().sum()) for after, before in zip(moved, plain, strict=True)]
        layer, index = divmod(int(direction.argmax()) - generator.noise_dim, generator.dims_per_layer)
        found[f"importance_{name}"] = float(generator.importances[layer, index])
        found[f"change_{name}"] = sum(sums) / sum(before.numel() for before in plain)
    return found


def health_warnings(health: dict[str, float]) -> list[str]:
    """Returns one sentence for each layer that is dead or dominated by one dimension."""
    layers: dict[str, dict[str, list[float]]] = {}
    for name, value in health.items():
        kind, _, dimension = name.partition("_")
        layers.setdefault(dimension.partition("D")[0], {}).setdefault(kind, []).append(value)
    warnings = []
    for layer, values in layers.items():
        total = sum(values["importance"])
        if max(values["change"]) < DEAD_CHANGE:
            warnings.append(f"Layer {layer} changes the image by less than {DEAD_CHANGE} a unit of z: it is dying.")
        elif len(values["importance"]) > 1 and max(values["importance"]) > TAKES_ALL * total:
            warnings.append(f"One dimension has more than {TAKES_ALL:.0%} of layer {layer}: the others fade.")
    return warnings
