"""Edits a painted region of a generated image: units that paint a concept are switched off or on there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_gan.app.sampling import sample
from saliency_gan.dissection.interventions import edited, setting
from saliency_gan.errors import UserError, reason_of
from saliency_gan.generators.base import Generator
from saliency_gan.images import ImageArray
from saliency_gan.images.tensors import to_uint8
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.storage.files import read_json

SIDE = 384
"""Side of the images on the page in pixels."""
DISSECTION = "dissection.json"
Action = Literal["ablate", "insert"]


@dataclass(frozen=True)
class UnitSet:
    """Units of a layer that agree with the same concept, best agreement first.

    Attributes:
        concept: The concept.
        layer: The layer.
        units: Their numbers.
        off: Their values when they are ablated, float [units].
        on: Their values when they are inserted, float [units].
    """

    concept: str
    layer: str
    units: tuple[int, ...]
    off: Tensor
    on: Tensor

    @property
    def title(self) -> str:
        """Its name on the page."""
        return f"{self.concept}, {self.layer} ({len(self.units)} unit{'s' * (len(self.units) > 1)})"


class Editor:
    """A generator with the units that `dissect` found.

    Args:
        dissection: Folder with the dissection.json of `dissect`; the folder or the file may be missing.
        generator: G, frozen.
        seed: Random seed of the images.

    Attributes:
        sets: Sets of units that can be switched; empty if this generator has no dissection.

    Raises:
        UserError: If the dissection is damaged, or belongs to another generator.
    """

    def __init__(self, dissection: Path | None, generator: Generator, seed: int = 0) -> None:
        self._generator, self._seed = generator, seed
        path = dissection / DISSECTION if dissection else None
        self.sets = read_unit_sets(path, generator) if path and path.is_file() else ()

    def start(self, draw: int, class_index: int | None) -> ImageArray:
        """Draws G(z, c).

        Args:
            draw: Number of the latent z; the same number gives the same z.
            class_index: c; None draws it at random.

        Returns:
            uint8 [SIDE, SIDE, 3].
        """
        return self._draw(*self._subject(draw, class_index))

    def edit(
        self,
        draw: int,
        class_index: int | None,
        painted: NDArray[np.bool_],
        chosen: int,
        count: int,
        action: Action,
    ) -> ImageArray:
        """Draws the same image with units switched in the painted region.

        Args:
            draw: As for `start`.
            class_index: As for `start`.
            painted: The region P, bool [H, W] at any size.
            chosen: Index into `sets`.
            count: Number of units to switch, best agreement first.
            action: ablate or insert.

        Raises:
            UserError: If there is no such set.
        """
        if not 0 <= chosen < len(self.sets):
            raise UserError(f"There is no set of units {chosen}: there are {len(self.sets)}.")
        some = self.sets[chosen]
        levels = (some.on if action == "insert" else some.off)[:count]
        region = torch.from_numpy(painted.astype(np.float32))[None]
        with edited(self._generator, some.layer, setting(some.units[:count], levels, region)):
            return self._draw(*self._subject(draw, class_index))

    def _subject(self, draw: int, class_index: int | None) -> tuple[Tensor, Tensor]:
        return sample(self._generator, random_stream(self._seed, Stream.EDITING, draw), 1, class_index)

    @torch.no_grad()
    def _draw(self, latents: Tensor, classes: Tensor) -> ImageArray:
        device = next(self._generator.parameters()).device
        image = to_uint8(self._generator(latents.to(device), classes.to(device)))[0]
        how = cv2.INTER_AREA if len(image) > SIDE else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=how), np.uint8)


def read_unit_sets(path: Path, generator: Generator) -> tuple[UnitSet, ...]:
    """Reads the units in a dissection.json, grouped by concept and layer, and its artifact units.

    Args:
        path: The file that `dissect` wrote.
        generator: The generator that the units must belong to.

    Raises:
        UserError: If the file is damaged, or is about another generator.
    """
    found = read_json(path)
    try:
        if not generator.is_described_by(found["generator"]["sha256"]):
            raise UserError(
                f"{path} is about the generator {found['generator']['name']}, not these weights of {generator.name}:"
                " run dissect again."
            )
        names = [concept["name"] for concept in found["concepts"]]
        sets = []
        for layer, units in found["layers"].items():
            generator.feature_layers[layer]
            agreeing = sorted((unit for unit in units if unit["concept"]), key=lambda unit: -unit["quality"])
            groups = {name: [unit for unit in agreeing if unit["concept"] == name] for name in names}
            sets += [_unit_set(name, layer, group) for name, group in groups.items() if group]
        sets.sort(key=lambda one: names.index(one.concept))
        if (artifacts := found["artifacts"]) and artifacts["units"]:
            by_number = {unit["unit"]: unit for unit in found["layers"][artifacts["layer"]]}
            listed = [{**by_number[unit], "off": 0.0} for unit in artifacts["units"]]
            sets.append(_unit_set("artifacts", artifacts["layer"], listed))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged or of another version ({reason_of(error)}): run dissect again.") from None
    return tuple(sets)


def _unit_set(concept: str, layer: str, units: list[dict[str, Any]]) -> UnitSet:
    off, on = (torch.tensor([float(unit[level]) for unit in units]) for level in ("off", "on"))
    return UnitSet(concept, layer, tuple(int(unit["unit"]) for unit in units), off, on)
