"""The pipeline YAML: one file with the settings of every stage."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from saliency_gan.config import STAGES
from saliency_gan.errors import UserError

SHARED_EVERYWHERE = ("run", "seed", "device", "precision")
SHARED_GENERATOR = ("generator", "weights", "truncation")
"""Keys that a pipeline YAML may give once, at the top, for every stage that has them; those of the generator reach
only stages that draw from one, for elsewhere `weights` is a saliency model."""


def load_pipeline(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a pipeline: shared settings at the top, one section a verb.

    Returns:
        For every verb of `STAGES`, the shared settings that it has, overridden by those of its section. Lists come as
        tuples and paths as `Path`, so `STAGES[verb](**settings)` works; what is not in the file is left out.

    Raises:
        UserError: If the file is missing, no YAML, or holds a key that no stage has.
    """
    content = read_yaml(path)
    shared_keys = (*SHARED_EVERYWHERE, *SHARED_GENERATOR)
    _refuse_unknown(content, (*shared_keys, *STAGES), f"{path} has")
    pipeline = {}
    for verb, stage in STAGES.items():
        section = content.get(verb) or {}
        if not isinstance(section, dict):
            raise UserError(f"{path}: {verb} should hold 'name: value' lines, but holds {section!r}.")
        kinds = {field.name: field.type for field in fields(stage)}
        _refuse_unknown(section, kinds, f"{path}: {verb} has")
        inherited = set(kinds) & set(shared_keys if "generator" in kinds else SHARED_EVERYWHERE)
        settings = {key: value for key, value in content.items() if key in inherited} | section
        pipeline[verb] = {key: _typed(value, kinds[key]) for key, value in settings.items()}
    return pipeline


def _refuse_unknown(given: Iterable[object], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise UserError(f"{where} a key {key!r} that is no setting: did you mean {near!r}?")


def _typed(value: Any, kind: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if isinstance(value, str) and "Path" in str(kind) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping; an empty file is an empty mapping. 1e-4 is a number, as people expect.

    Raises:
        UserError: If the file is missing or not a YAML mapping.
    """

    class Loader(yaml.SafeLoader):
        """YAML 1.1 takes 1e-4, without a decimal point or a sign of the exponent, for text."""

    exponent = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+0123456789"))
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise UserError(f"There is no config {path}: give a YAML file, for example pipelines/demo.yaml.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        summary = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as YAML ({summary}).") from None
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{path} should hold 'name: value' lines, but holds a {type(value).__name__}.")
    return value or {}
