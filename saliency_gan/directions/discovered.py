"""Loads the directions of a run together with their generator."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_chosen
from saliency_gan.results.directions import Directions, load_directions
from saliency_gan.storage.bundled import generators_with_directions
from saliency_gan.storage.run_layout import GeneratorChoice, Input


@dataclass(frozen=True)
class Discovered:
    """Directions that `discover` found, with their generator and folder.

    Attributes:
        generator: G, frozen, on the CPU.
        directions: The generator's directions.
        folder: The folder that they were read from.
    """

    generator: Generator
    directions: Directions
    folder: Path


def open_discovered(choice: GeneratorChoice, found: Input) -> Discovered:
    """Loads directions and their generator.

    Args:
        choice: The generator, see `GeneratorConfig.choice`.
        found: Where the directions are, see `RunLayout.directions`.

    Raises:
        UserError: If there are no directions, or they belong to another generator.
    """
    if found.origin == "missing":
        raise UserError(
            f"{found.name} does not exist: run discover first, name another folder with --run, or give"
            f" --generator {generators_with_directions()[0]} for the bundled directions."
        )
    directions = load_directions(found.folder)
    generator = load_chosen(choice)
    directions.check_generator(generator)
    return Discovered(generator, directions, found.folder)
