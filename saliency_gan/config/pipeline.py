"""The pipeline YAML: one file with the settings of every stage."""

import difflib
import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from saliency_gan.config import STAGES
from saliency_gan.config.generator import GeneratorConfig
from saliency_gan.errors import UserError
from saliency_gan.storage.yaml_files import read_yaml

SHARED_EVERYWHERE = ("run", "seed", "device", "precision")
SHARED_GENERATOR = ("generator", "weights", "truncation", "ablate_units")
"""Keys that a pipeline YAML may set once, at the top, for every stage that has them. `weights` is a saliency model in
stages without `GeneratorConfig`, so they do not inherit it."""


def load_pipeline(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a pipeline: shared settings at the top, one section per verb.

    Returns:
        For every verb of `STAGES`, the shared settings that it has, overridden by the settings in its section. Lists
        become tuples and paths become `Path`, with ~ for the home folder, so `STAGES[verb](**settings)` works. Settings
        that are not in the file are left out.

    Raises:
        UserError: If the file is missing, is not YAML, or has a key that no stage has.
    """
    content = read_yaml(path)
    shared_keys = (*SHARED_EVERYWHERE, *SHARED_GENERATOR)
    _refuse_unknown(content, (*shared_keys, *STAGES), f"{path} has")
    pipeline = {}
    for verb, stage in STAGES.items():
        section = {} if content.get(verb) is None else content[verb]
        if not isinstance(section, dict):
            raise UserError(f"{path}: {verb} should hold 'name: value' lines, but holds {_short(section)}.")
        kinds = {field.name: field.type for field in fields(stage)}
        _refuse_unknown(section, kinds, f"{path}: {verb} has")
        inherited = set(kinds) & set(shared_keys)
        if not issubclass(stage, GeneratorConfig):
            inherited.discard("weights")
        settings = {key: value for key, value in content.items() if key in inherited} | section
        pipeline[verb] = {key: _typed(value, kinds[key], f"{path}: {key}") for key, value in settings.items()}
    return pipeline


def _refuse_unknown(given: Iterable[object], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key)[:60], known, n=1)
            verbs = [verb for verb, stage in STAGES.items() if key in {field.name for field in fields(stage)}]
            advice = "saliency-gan VERB --help lists those of a verb."
            if near:
                advice = f"did you mean {near[0]!r}?"
            elif verbs:
                advice = f"it is a setting of {' and '.join(verbs)}, so write it below '{verbs[0]}:'."
            raise UserError(f"{where} a key {_short(key)} that is no setting: {advice}")


def _short(value: object, at_most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= at_most else f"{text[: at_most - 3]}..."


def _typed(value: Any, kind: Any, where: str) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{where} holds a character of code 0, which no name of a file has: remove it.")
    if isinstance(value, list):
        return tuple(_path(entry, where) if "Path" in str(kind) else entry for entry in value)
    return _path(value, where) if "Path" in str(kind) and "tuple[" not in str(kind) else value


def _path(value: Any, where: str) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):  # YAML has read 010 as 8 already
        raise UserError(f"{where} is the number {value}: put a name of digits into quotes.")
    # Path.expanduser fails for ~ and an unknown user.
    return Path(os.path.expanduser(value)) if isinstance(value, str) else value  # noqa: PTH111
