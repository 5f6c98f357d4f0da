"""Translates class names, indices and ranges, as users write them, into the class indices of a generator."""

import difflib
import re
from collections.abc import Sequence

from saliency_gan.errors import UserError

SUGGESTIONS = 3


def class_indices(asked: Sequence[str | int], names: Sequence[str], generator: str) -> list[int]:
    """Translates names, indices and ranges into class indices. Each index appears once, in the order of `asked`.

    Args:
        asked: Names, indices and ranges (`10-20`, both ends included). An exact match of a name comes first. Without
            one, upper and lower case do not matter.
        names: One name per class.
        generator: Name of the generator, for error messages.

    Raises:
        UserError: If `asked` is empty, an item fits no class, or a name fits several classes.
    """
    if not asked:
        raise UserError("An empty list of classes was given: name at least one, or leave classes out for all of them.")
    found = [index for words in asked for index in _indices_of(str(words).strip(), names, generator)]
    return list(dict.fromkeys(found))


def _indices_of(words: str, names: Sequence[str], generator: str) -> Sequence[int]:
    if words in names:
        return [names.index(words)]
    fitting = [index for index, name in enumerate(names) if name.lower() == words.lower()]
    if len(fitting) > 1:
        several = " and ".join(f"{names[index]!r} ({index})" for index in fitting)
        raise UserError(f"{words!r} fits the classes {several} of {generator}: write it as one of them, or its index.")
    if fitting:
        return fitting
    if (ends := re.fullmatch(r"([0-9]+)(?:\s*-\s*([0-9]+))?", words)) is None:
        raise UserError(
            f"{generator} has no class {words!r}: give an index below {len(names)} or a name;"
            f" did you mean {_similar(words, names)}?"
        )
    first = int(ends[1])
    last = first if ends[2] is None else int(ends[2])
    if not first <= last < len(names):
        raise UserError(
            f"{generator} has no class {words!r}: its indices are 0 to {len(names) - 1}, and a range goes up, as 10-20."
        )
    return range(first, last + 1)


def _similar(words: str, names: Sequence[str]) -> str:
    """Suggests names that contain the words, else names with a similar spelling, else the closest name."""
    lower = {name.lower(): name for name in reversed(names)}
    holding = [name for name in lower if words and words.lower() in name]
    near = sorted(holding, key=len) or difflib.get_close_matches(words.lower(), lower, SUGGESTIONS, cutoff=0.6)
    near = near or difflib.get_close_matches(words.lower(), lower, 1, cutoff=0.0)
    return " or ".join(repr(lower[name]) for name in near[:SUGGESTIONS])
