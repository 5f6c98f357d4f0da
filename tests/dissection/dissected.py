"""A dissection.json as `dissect` leaves it, without any measurement."""

from pathlib import Path

from saliency_gan.generators.base import Generator
from saliency_gan.storage.files import write_json


def write_dissection(folder: Path, generator: Generator, layer: str, units: list[tuple[int, str, float]]) -> Path:
    """Writes a dissection in which units of one layer have concepts; off is 0, on is 2.

    Args:
        folder: Where to.
        generator: Whose units they are.
        layer: Its layer.
        units: Number, concept and information quality.
    """
    listed = [
        {"unit": unit, "concept": concept, "kind": "object", "quality": quality, "off": 0.0, "on": 2.0}
        for unit, concept, quality in units
    ]
    names = list(dict.fromkeys(concept for _, concept, _ in units))
    found = {
        "generator": {"name": generator.name, "sha256": generator.sha256},
        "concepts": [{"name": name, "kind": "object"} for name in names],
        "layers": {layer: listed},
        "artifacts": {"layer": layer, "units": [units[-1][0]]},
    }
    write_json(folder / "dissection.json", found)
    return folder / "dissection.json"
