"""Reads YAML files without building Python objects that a file of a few lines could fill the memory with."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from saliency_gan.errors import UserError, reason_of
from saliency_gan.storage.files import read_text

LARGEST_FILE, MOST_VALUES, LONGEST_NUMBER = 2**18, 100_000, 100
"""Limits of a YAML file: its bytes, its values with all aliases expanded, and the characters of a number. Files above
these limits are refused before Python objects are built from them, because a few lines of aliases can expand to more
than fits in memory."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number; YAML 1.1 needs a decimal point and a sign of the exponent, and would read it as text."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that _Loader would read as a number."""


for _kind in (_Loader, _Dumper):
    _exponent = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _exponent, list("-+0123456789"))


def to_yaml(values: dict[str, Any]) -> str:
    """Returns the text of a YAML file that `read_yaml` reads as these values; keys keep their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping; an empty file gives an empty mapping. 1e-4 is read as a number.

    Raises:
        UserError: If the file is missing or not a YAML mapping.
    """

    try:
        value = _build(_Loader(read_text(path, LARGEST_FILE)))
    except FileNotFoundError:
        raise UserError(f"There is no config {path}: give a YAML file, for example pipelines/demo.yaml.") from None
    except RecursionError:
        raise UserError(f"{path} cannot be read as YAML (it is nested too deeply).") from None
    except Exception as error:  # a tag that does not fit its value can raise any exception
        summary = reason_of(error)
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
        raise ValueError(f"the key {twins[0][:60]!r} is there twice")
