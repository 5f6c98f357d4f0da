"""Units of a generator, the channels of its feature layers: looked at, and switched off for good."""

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
    """While it is open, the generator leaves the features of some layers behind at every forward pass.

    Args:
        generator: G.
        layers: Names in `generator.feature_layers`.

    Yields:
        Layer -> float32 [N, units, h, w] of the last pass.
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
    """Switches units off in every image that the generator draws from now on, and gives it another identity.

    A unit that is off is 0 everywhere, f(0, r_rest): what the paper does to artifact units, and what `dissect` measures
    when it looks for them (Bau et al. 2019, sections 3.2 and 4.3).

    Args:
        generator: G, frozen; changed in place. `name` and `sha256` say what it lacks, and `intact_sha256` is what
            `sha256` was.
        ablate_units: `LAYER:U,U,U`, one item a layer: a name in `generator.feature_layers` and numbers of its units.

    Returns:
        The same generator.

    Raises:
        UserError: If an item is no such text, or there is no such layer or unit.
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
    """Layer -> its units in ascending order, each once; layers from the coarsest to the finest."""
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
    """Units of some layers; an image has to be drawn to see them."""
    random = random_stream(Stream.UNIT_PROBE)
    with watched(generator, layers) as features:
        generator(*generator.sample(1, random))
    return {layer: features[layer].shape[1] for layer in layers}
