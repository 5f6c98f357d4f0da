"""Weights that are part of the package, found by name, without a library that reads them."""

from importlib.resources import files
from pathlib import Path


def bundled_folder(name: str) -> Path:
    """Folder of the package with the weights called `name`, whether or not it is there."""
    return Path(str(files("saliency_gan") / "weights" / Path(name).name))


def bundled_directions(generator: str) -> Path | None:
    """Folder with the directions that are bundled with a generator; None where there are none."""
    folder = bundled_folder(generator)
    return folder if folder.name == generator and (folder / "directions.json").is_file() else None


def generators_with_directions() -> list[str]:
    """Names of the generators that are bundled with directions, sorted."""
    return sorted(path.parent.name for path in bundled_folder("any").parent.glob("*/directions.json"))


def directions_folder(run: Path, generator: str | None) -> Path:
    """Where the directions of a run are: its discover folder, else those bundled with the generator.

    Args:
        run: The run folder.
        generator: Name of the generator; None, or one without bundled directions, leaves only the run's folder.
    """
    discovered = run / "discover"
    bundled = bundled_directions(generator) if generator else None
    return discovered if discovered.is_dir() or bundled is None else bundled
