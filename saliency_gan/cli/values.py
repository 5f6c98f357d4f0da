"""Describes the allowed values of settings, for `--help` and for errors about wrong values."""

import difflib
from collections.abc import Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

SYNONYMS = {"gpu": "cuda"}
"""What people write instead of a known name."""
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path", str: "a text"}
_PLACES = {bool: "{true,false}", int: "N", float: "X", Path: "PATH", str: "TEXT"}
WITH_COMMAS = {"over": "NAME=VALUE,...", "ablate_units": "LAYER:N,..."}
"""Lists whose values contain commas themselves -> placeholder of a value. On the command line, they are given once for
each value."""
ENOUGH_ALIKE = 0.6
"""Lowest similarity, 0 to 1, at which a known name is suggested for a wrong one."""


def in_words(hint: Any) -> str:
    """Describes the values of a type, for example "a number or otsu"; for a list, its entries."""
    parts = [_WORDS[one] for one in _single(hint) if one in _WORDS] + choices(hint)
    return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else parts[0]


def place(hint: Any) -> str:
    """The placeholder for a value of a type in `--help`: "N", "X|otsu", "{none,guided}", "PATH,..."."""
    names = [_PLACES[one] for one in _single(hint) if one in _PLACES]
    words = choices(hint)
    name = "|".join([*names, *words]) if names else f"{{{','.join(words)}}}"
    return f"{name},..." if is_list(hint) else name


def choices(hint: Any) -> list[str]:
    """The words that a type allows; for a list, the words that its entries allow."""
    return [str(value) for one in _single(hint) if get_origin(one) is Literal for value in get_args(one)]


def is_list(hint: Any) -> bool:
    """Whether values of a type are lists."""
    return any(get_origin(one) is tuple for one in _alternatives(hint))


def shown(value: Any) -> str:
    """A value as it is written on the command line; "none" for an empty list."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(shown, value)) or "none"
    return str(value)


def guess(name: str, known: Collection[str]) -> str | None:
    """Guesses the known name for a wrong one: its synonym, else the shortest that starts with it, else the most similar
    one, else None."""
    if SYNONYMS.get(name) in known:
        return SYNONYMS[name]
    longer = sorted((one for one in known if name and one.startswith(name)), key=len)
    return next(iter([*longer, *difflib.get_close_matches(name, known, n=1, cutoff=ENOUGH_ALIKE)]), None)


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [part for one in get_args(hint) for part in _alternatives(one) if part is not NoneType]
    return [hint]


def _single(hint: Any) -> list[Any]:
    """The alternatives of a type; a list is replaced by the alternatives of its entries."""
    found = []
    for one in _alternatives(hint):
        found += _single(get_args(one)[0]) if get_origin(one) is tuple else [one]
    return found
