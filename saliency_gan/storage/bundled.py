"""Paths of the weights that are part of the package; this module does not read them."""

from importlib.resources import files
from pathlib import Path


def bundled_folder(name: str) -> Path:
    """Folder of the package with the weights called `name`; it may not exist."""
    return Path(str(files("saliency_gan") / "weights" / Path(name).name))


def generators_with_directions() -> list[str]:
    """Names of the generators that are bundled with directions, sorted."""
    return sorted(path.parent.name for path in bundled_folder("any").parent.glob("*/directions.json"))
