"""Whether the layers of an EigenGAN are alive: what each dimension contributes, and what it changes in the image."""

import torch
from torch import Tensor

from saliency_gan.generators.eigengan import EigenGAN

DEAD_CHANGE = 0.002
"""A layer none of whose dimensions changes the image by more, a unit of z, is dead."""
TAKES_ALL = 0.9
"""Share of a layer's |L| from which one dimension has taken it."""


@torch.no_grad()
def layer_health(generator: EigenGAN, latents: Tensor, classes: Tensor) -> dict[str, float]:
    """Measures every dimension z_ij.

    Args:
        generator: G, on the device of the other arguments.
        latents: z, float [N, latent_dim].
        classes: c, int64 [N].

    Returns:
        `importance_L1D1`, |L_ij|, and `change_L1D1`, the mean absolute change of G(z, c) in [-1, 1] when z_ij grows by
        one, for every dimension; the names are those of `own_directions`.
    """
    plain = generator(latents, classes)
    found = {}
    for name, direction in generator.own_directions.items():
        moved = generator(latents + direction.to(latents), classes)
        layer, index = divmod(int(direction.argmax()) - generator.noise_dim, generator.dims_per_layer)
        found[f"importance_{name}"] = float(generator.importances[layer, index])
        found[f"change_{name}"] = float((moved - plain).abs().mean())
    return found


def health_warnings(health: dict[str, float]) -> list[str]:
    """A sentence for every layer that is dead or belongs to one of its dimensions."""
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
