"""The units that paint an object or its background. `dissect` writes them for the rule `units` of `masks`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.storage.files import read_json

Painted = Literal["object", "background"]


@dataclass(frozen=True)
class Painter:
    """A unit with a vote.

    Attributes:
        layer: Layer of the unit.
        unit: Number of the unit in its layer.
        paints: What the image shows where the unit is on: object or background.
        threshold: The unit is on where its activation, enlarged to the image, is above this.
        quality: Mutual information over joint entropy, I / H, of "the unit is on" and "the image shows what it paints";
            the weight of its vote.
    """

    layer: str
    unit: int
    paints: Painted
    threshold: float
    quality: float


@dataclass(frozen=True)
class Painters:
    """Units that vote on where an object is.

    Attributes:
        concept: Concept of the object.
        units: The units that vote.
    """

    concept: str
    units: tuple[Painter, ...]

    @property
    def layers(self) -> list[str]:
        """The layers of the units, each once."""
        return list(dict.fromkeys(painter.layer for painter in self.units))

    def votes(self, features: Mapping[str, Tensor], side: int) -> Tensor:
        """Counts the votes for every pixel.

        A unit of the object votes for the object where it is on. A unit of the background does so where it is off.

        Args:
            features: Layer -> float [N, units, h, w].
            side: Side of the images in pixels.

        Returns:
            The object's share of the weighted votes, float32 [N, side, side] in [0, 1].

        Raises:
            UserError: If `features` lack a unit.
        """
        total = sum(painter.quality for painter in self.units)
        votes: Tensor | float = sum(painter.quality for painter in self.units if painter.paints == "background")
        for layer in self.layers:
            own = [painter for painter in self.units if painter.layer == layer]
            if (last := max(painter.unit for painter in own)) >= features[layer].shape[1]:
                raise UserError(f"There is no unit {last} in {layer}, which dissection.json names: run dissect again.")
            some = features[layer][:, [painter.unit for painter in own]].float()
            thresholds, weights = some.new_tensor(
                [(one.threshold, one.quality if one.paints == "object" else -one.quality) for one in own]
            ).T[:, :, None, None]
            on = F.interpolate(some, (side, side), mode="bilinear") > thresholds
            votes = votes + (on * weights).sum(1)
        return torch.as_tensor(votes / total).clamp(0, 1)

    @property
    def sha256(self) -> str:
        """Hex digest of the units and their votes. Pairs of different digests are never mixed."""
        return hashlib.sha256(json.dumps(self.to_plain(), sort_keys=True).encode()).hexdigest()

    def to_plain(self) -> dict[str, Any]:
        """Returns the entry `painters` of dissection.json; `load_painters` reads it back."""
        return {"concept": self.concept, "units": [asdict(painter) for painter in self.units]}


def load_painters(folder: Path, generator: Generator) -> Painters:
    """Reads the painters that `dissect` found.

    Args:
        folder: The folder, for example runs/demo/dissect.
        generator: G, which the units must belong to. Units may have been ablated since.

    Raises:
        UserError: If there are no painters, the file is damaged, or they belong to another generator.
    """
    path = folder / "dissection.json"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist, but the rule units asks which units paint the object: run dissect first, or name"
            " another folder with --dissection."
        )
    found = read_json(path)
    try:
        sha256, name = str(found["generator"]["sha256"]), str(found["generator"]["name"])
        plain = found["painters"]
        painters = plain and Painters(str(plain["concept"]), tuple(Painter(**unit) for unit in plain["units"]))
        valid = painters is None or _are_valid(painters.units)
    except (LookupError, TypeError, AttributeError, ValueError):
        valid = False
    if not valid:
        raise UserError(f"{path} names no units that vote on masks: run dissect again.")
    if not painters:
        raise UserError(
            f"No unit of {name} agrees with what {path} was to find units of: run dissect again with another"
            " --mask_concept, and --mask_units above 0."
        )
    if not generator.is_described_by(sha256):
        raise UserError(
            f"{path} is about generator {name} ({sha256[:12]}), but {generator.name} ({generator.sha256[:12]}) was"
            " given: run dissect on it, or name another folder with --dissection."
        )
    if unknown := set(painters.layers) - set(generator.feature_layers):
        raise UserError(f"There is no layer {sorted(unknown)[0][:80]!r}, which {path} names: run dissect again.")
    return painters


def _are_valid(units: Sequence[Painter]) -> bool:
    return bool(units) and all(
        isinstance(one.layer, str)
        and type(one.unit) is int
        and 0 <= one.unit < 2**20
        and one.paints in ("object", "background")
        and all(isinstance(number, float | int) and abs(number) < 1e30 for number in (one.threshold, one.quality))
        and one.quality > 0
        for one in units
    )
