"""Weights that are part of the package, found by name, without a library that reads them."""

from importlib.resources import files
from pathlib import Path


def bundled_folder(name: str) -> Path:
    """Folder of the package with the weights called `name`, whether or not it is there."""
    return Path(str(files("saliency_gan") / "weights" / Path(name).name))


def directions_folder(run: Path, generator: str | None) -> Path:
    """Where the directions of a run are: its discover folder, else those bundled with the generator.

    Args:
        run: The run folder.
        generator: Name of the generator; None, or one without bundled directions, leaves only the run's folder.
    """
    discovered = run / "discover"
    if discovered.is_dir() or generator is None or Path(generator).name != generator:
        return discovered
    bundled = bundled_folder(generator)
    return bundled if (bundled / "directions.json").is_file() else discovered
