"""`annotate`: manages the names that users give to directions; directions.json stores them."""

import unicodedata
from pathlib import Path

import yaml

from saliency_gan.config import AnnotateConfig
from saliency_gan.directions.gallery import write_index
from saliency_gan.errors import UserError
from saliency_gan.results.directions import Directions, load_directions
from saliency_gan.storage.files import read_json, write_json
from saliency_gan.storage.locks import lock_folder

LONGEST_NAME = 40
RESERVED = ("none", "null")
"""Words that mean no direction on the command line."""


def annotate(config: AnnotateConfig) -> None:
    """Names a direction, removes its name, or lists the names, as `config` says.

    Raises:
        UserError: If there is no such direction, the name cannot be used, or the settings contradict each other.
    """
    folder = config.run / "discover"
    directions = load_directions(folder)
    if config.direction is None:
        if config.name is not None or config.remove:
            raise UserError("Which direction is meant is not said: give --direction with an index or a name.")
        print(
            "\n".join(_listing(directions)) or f"No direction in {folder} has a name yet: give --direction and --name."
        )
        return
    index = directions.index_of(config.direction)
    if config.remove == (config.name is not None):
        raise UserError(f"What to do with direction {index} is not clear: give either --name NAME or --remove.")
    name = None if config.name is None else clean_name(config.name)
    with lock_folder(folder, "--run"):
        stored = rename(folder, index, name)
    print(f"direction {index} is called {stored}" if stored else f"direction {index} has no name any more")


def rename(folder: Path, index: int, name: str | None) -> str | None:
    """Writes the name of a direction into directions.json and into the gallery's page; nothing else changes.

    Args:
        folder: Folder of directions.json.
        index: Column of A.
        name: Result of `clean_name`; None removes the present name. A built-in direction keeps the generator's name
            for it as a prefix.

    Returns:
        The name as it is stored, with the prefix; None if the direction has no name any more.

    Raises:
        UserError: If another direction has this name.
    """
    directions = load_directions(folder)
    if own := directions.own_name(index):
        name = f"{own}: {name.removeprefix(f'{own}: ')}" if name else own
    names = {key: value for key, value in directions.names.items() if key != index}
    if name is not None:
        for other, taken in names.items():
            if taken == name:
                raise UserError(
                    f"Direction {other} is called {name!r} already: choose another name, or remove that one."
                )
        names[index] = name
    description = read_json(folder / "directions.json")
    description["names"] = {str(key): names[key] for key in sorted(names)}
    write_json(folder / "directions.json", description)
    if (folder / "gallery").is_dir():
        write_index(folder / "gallery", directions.scores, names)
    return name


def clean_name(name: str) -> str:
    """Returns a name as it is stored: composed characters (NFC), single spaces, no spaces around it.

    Raises:
        UserError: If it is empty, too long, a number, a reserved word, or holds invisible characters.
    """
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if not cleaned or len(cleaned) > LONGEST_NAME or not cleaned.isprintable():
        raise UserError(f"The name {cleaned[:60]!r} cannot be used: give 1 to {LONGEST_NAME} visible characters.")
    if _means_something_else(cleaned) or cleaned.lower() in RESERVED:
        raise UserError(f"The name {cleaned!r} would be taken for an index or for no direction: give a word.")
    return cleaned


def _means_something_else(name: str) -> bool:
    """Whether the command line, which reads values as YAML, takes a name for a number or for no value: 12, 0x10, 1:30,
    null, ~, # a comment."""
    try:
        value = yaml.safe_load(name)
    except (yaml.YAMLError, ValueError):  # such as 2026-13-45, which is no date: it is taken as it is
        return False
    return value is None or isinstance(value, int)


def _listing(directions: Directions) -> list[str]:
    return [f"{index:>5}  {name}" for index, name in sorted(directions.names.items())]
