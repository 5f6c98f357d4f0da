"""Reads units of a generator and switches them off. A unit is a channel of a feature layer."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.runs.random_streams import Stream, random_stream


@contextmanager
def watched(generator: Generator, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Records the features of some layers at every forward pass while the context is open.

    Args:
        generator: G.
        layers: Names in `generator.feature_layers`.

    Yields:
        Layer -> its features in the last forward pass, float32 [N, units, h, w].
    """
    seen: dict[str, Tensor] = {}
    modules = generator.feature_layers
    handles = [
        modules[layer].register_forward_hook(
            lambda _module, _inputs, output, layer=layer: seen.__setitem__(layer, output.float())
        )
        for layer in layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def ablate(generator: Generator, ablate_units: Sequence[str]) -> Generator:
    """Switches units off in all later images of the generator, and changes its name and sha256.

    A unit that is off is 0 everywhere, f(0, r_rest). The paper does this to artifact units, and `dissect` measures the
    same effect to find them (Bau et al. 2019, sections 3.2 and 4.3).

    Args:
        generator: G, frozen; changed in place. Its new `name` and `sha256` describe the ablated units, and
            `intact_sha256` is the old `sha256`.
        ablate_units: One `LAYER:U,U,U` per layer: a name in `generator.feature_layers` and numbers of its units.

    Returns:
        The same generator.

    Raises:
        UserError: If an item has another format, or the layer or a unit does not exist.
    """
    units = _parse(ablate_units, generator)
    counts = _count_units(generator, list(units))
    for layer, numbers in units.items():
        count = counts[layer]
        if numbers[-1] >= count:
            raise UserError(
                f"There is no unit {numbers[-1]} in {layer} of {generator.name}, which has {count}: give 0 to"
                f" {count - 1} with --ablate_units."
            )
    for layer, numbers in units.items():
        generator.feature_layers[layer].register_forward_hook(_Off(numbers))
    generator.intact_sha256 = generator.sha256
    lacking = " ".join(f"{layer}:{','.join(map(str, numbers))}" for layer, numbers in units.items())
    generator.sha256 = hashlib.sha256(f"{generator.sha256} without {lacking}".encode()).hexdigest()
    shares = (f"{len(numbers)} of {layer}" for layer, numbers in units.items())
    generator.name = f"{generator.name} without units ({', '.join(shares)})"
    return generator


class _Off:
    """A forward hook that sets units to 0."""

    def __init__(self, units: Sequence[int]) -> None:
        self.units = torch.tensor(units)

    def __call__(self, _module: nn.Module, _inputs: object, features: Tensor) -> Tensor:
        self.units = self.units.to(features.device)
        return features.index_fill(1, self.units, 0.0)


def _parse(ablate_units: Sequence[str], generator: Generator) -> dict[str, list[int]]:
    """Returns layer -> its units in ascending order, each once. Layers go from the coarsest to the finest."""
    known = generator.feature_layers
    asked: dict[str, set[int]] = {}
    for item in ablate_units if isinstance(ablate_units, list | tuple) else [ablate_units]:
        layer, _, numbers = str(item).rpartition(":")
        if not layer or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", number) for number in numbers.split(",")):
            raise UserError(
                f"--ablate_units {str(item)[:80]!r} names no units: give LAYER:U,U,U, for example block1:3,17,42."
            )
        if layer not in known:
            raise UserError(
                f"{generator.name} has no layer {layer[:80]!r} to ablate units of: its layers are"
                f" {', '.join(known) or 'none'}."
            )
        asked.setdefault(layer, set()).update(int(number) for number in numbers.split(","))
    return {layer: sorted(asked[layer]) for layer in known if layer in asked}


@torch.no_grad()
def _count_units(generator: Generator, layers: list[str]) -> dict[str, int]:
    """Counts the units of some layers. It generates one image for this."""
    random = random_stream(Stream.UNIT_PROBE)
    with watched(generator, layers) as features:
        generator(*generator.sample(1, random))
    return {layer: features[layer].shape[1] for layer in layers}
