"""The directions of a run together with the generator they belong to, for everything that shows them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saliency_gan.artifacts.directions import Directions, load_directions
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.custom import is_custom
from saliency_gan.generators.zoo import GENERATORS, is_bundled, load_generator
from saliency_gan.storage.bundled import directions_folder


@dataclass(frozen=True)
class Discovered:
    """What `discover` found and where.

    Attributes:
        generator: G, frozen, on the CPU.
        directions: Its directions.
        folder: The folder they were read from.
    """

    generator: Generator
    directions: Directions
    folder: Path


def open_discovered(
    run: Path, generator: str | None, weights: Path | None, ablate_units: Sequence[str] = ()
) -> Discovered:
    """Loads a run's directions and their generator.

    Args:
        run: Run folder.
        generator: Name or path of the generator; None takes the one that discover was run on. Where the run has no
            directions, the bundled ones of a bundled generator.
        weights: The generator's weights; None takes those of discover.
        ablate_units: Units that are switched off, as for `load_generator`; none takes those of discover.

    Raises:
        UserError: If the run has no directions, or the generator is not theirs, or nobody named it although it is code.
    """
    folder = directions_folder(run, generator)
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist: run discover first, name another folder with --run, or give"
            f" --generator {next(filter(is_bundled, GENERATORS))} for the bundled directions."
        )
    directions = load_directions(folder)
    settings = directions.config
    if weights is None and generator is None and settings.get("weights"):
        weights = Path(settings["weights"])
    name = generator or settings.get("generator", directions.generator["name"])
    if generator is None and is_custom(name):
        raise UserError(
            f"The directions in {folder} belong to {name}, which is code, and code is only run when a person names it:"
            f" add --generator {name}{f' --weights {weights}' if weights else ''}."
        )
    ablated = ablate_units or settings.get("ablate_units", ())
    loaded = load_generator(name, weights, settings.get("truncation", 1.0), ablated)
    directions.check_generator(loaded)
    return Discovered(loaded, directions, folder)
