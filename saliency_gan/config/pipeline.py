"""The pipeline YAML: one file with the settings of every stage."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from saliency_gan.config import STAGES
from saliency_gan.errors import UserError
from saliency_gan.storage.files import read_text

SHARED_EVERYWHERE = ("run", "seed", "device", "precision")
SHARED_GENERATOR = ("generator", "weights", "truncation", "ablate_units")
"""Keys that a pipeline YAML may set once, at the top, for every stage that has them. The keys of the generator apply
only to stages that use a generator, because `weights` is a saliency model in other stages."""


LARGEST_FILE, MOST_VALUES, LONGEST_NUMBER = 2**18, 100_000, 100
"""Limits of a YAML file: its bytes, its values with all aliases expanded, and the characters of a number. Files above
these limits are refused before Python objects are built from them, because a few lines of aliases can expand to more
than fits in memory."""


def load_pipeline(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a pipeline: shared settings at the top, one section per verb.

    Returns:
        For every verb of `STAGES`, the shared settings that it has, overridden by the settings in its section. Lists
        become tuples and paths become `Path`, so `STAGES[verb](**settings)` works. Settings that are not in the file
        are left out.

    Raises:
        UserError: If the file is missing, is not YAML, or has a key that no stage has.
    """
    content = read_yaml(path)
    shared_keys = (*SHARED_EVERYWHERE, *SHARED_GENERATOR)
    _refuse_unknown(content, (*shared_keys, *STAGES), f"{path} has")
    pipeline = {}
    for verb, stage in STAGES.items():
        section = content.get(verb) or {}
        if not isinstance(section, dict):
            raise UserError(f"{path}: {verb} should hold 'name: value' lines, but holds {_short(section)}.")
        kinds = {field.name: field.type for field in fields(stage)}
        _refuse_unknown(section, kinds, f"{path}: {verb} has")
        inherited = set(kinds) & set(shared_keys if "generator" in kinds else SHARED_EVERYWHERE)
        settings = {key: value for key, value in content.items() if key in inherited} | section
        pipeline[verb] = {key: _typed(value, kinds[key], f"{path}: {key}") for key, value in settings.items()}
    return pipeline


def _refuse_unknown(given: Iterable[object], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(_short(key), known, n=1, cutoff=0.0)[0]
            raise UserError(f"{where} a key {_short(key)} that is no setting: did you mean {near!r}?")


def _short(value: object, at_most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= at_most else f"{text[: at_most - 3]}..."


def _typed(value: Any, kind: Any, where: str) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{where} holds a character of code 0, which no name of a file has: remove it.")
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if isinstance(value, str) and "Path" in str(kind) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping; an empty file gives an empty mapping. 1e-4 is read as a number.

    Raises:
        UserError: If the file is missing or not a YAML mapping.
    """

    class Loader(yaml.SafeLoader):
        """Reads 1e-4 as a number; YAML 1.1 needs a decimal point and a sign of the exponent, and would read it as
        text."""

    exponent = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+0123456789"))
    try:
        value = _build(Loader(read_text(path, LARGEST_FILE)))
    except FileNotFoundError:
        raise UserError(f"There is no config {path}: give a YAML file, for example pipelines/demo.yaml.") from None
    except RecursionError:
        raise UserError(f"{path} cannot be read as YAML (it is nested too deeply).") from None
    except Exception as error:  # a tag that does not fit its value can raise any exception
        summary = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as YAML ({summary}).") from None
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{path} should hold 'name: value' lines, but holds a {type(value).__name__}.")
    return value or {}


def _build(loader: yaml.SafeLoader) -> Any:
    try:
        node = loader.get_single_node()
        _count(node, {}) if node is not None else None
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """Returns how many values a node has when all aliases are expanded; `counts` stores the results of finished nodes.

    Raises:
        ValueError: If there are too many values, a node contains itself, a number is too long, or a key is there twice.
    """
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(node.value):,} characters")
        return 1
    if id(node) not in counts:
        if isinstance(node, yaml.MappingNode):
            _refuse_twins([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        counts[id(node)] = MOST_VALUES  # until the node is finished, so that a node inside itself exceeds the limit
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        counts[id(node)] = 1 + sum(_count(part, counts) for part in parts)
        if counts[id(node)] > MOST_VALUES:
            raise ValueError(f"it stands for more than {MOST_VALUES:,} values")
    return counts[id(node)]


def _refuse_twins(keys: list[str]) -> None:
    twins = [key for key, times in Counter(keys).items() if times > 1]
    if twins:
        raise ValueError(f"the key {_short(twins[0])} is there twice")
