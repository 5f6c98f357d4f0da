"""Turns the command line and a pipeline YAML into the settings of a verb."""

import argparse
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml

from saliency_gan.cli.values import WITH_COMMAS, choices, guess, in_words, is_list, shown
from saliency_gan.config import STAGES
from saliency_gan.config.pipeline import SHARED_EVERYWHERE, load_pipeline
from saliency_gan.errors import UserError


def parse(verb: str, words: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Resolves the settings of a verb: defaults, then the pipeline YAML, then flags.

    Args:
        verb: A key of `STAGES`.
        words: The words after the verb on the command line.

    Returns:
        The stage's config, and the options that are not settings: "config", "dry_run" and, for predict, "paths".

    Raises:
        UserError: If a flag, a key or a value is not valid.
    """
    import jsonargparse

    from saliency_gan.cli.help import HelpFormatter

    parser = jsonargparse.ArgumentParser(
        prog=f"saliency-gan {verb}",
        description=(STAGES[verb].__doc__ or "").partition("\n\n")[0],
        exit_on_error=False,
        formatter_class=HelpFormatter,
        usage=f"saliency-gan {verb} {'PATH ... ' * (verb == 'predict')}[--config YAML] [--SETTING VALUE ...]",
    )
    if verb == "predict":
        about = "Photos, videos, and folders of them; - reads a photo from standard input."
        parser.add_argument("paths", nargs="+", type=str, metavar="PATH", help=about)
    parser.add_argument("--config", type=str | None, metavar="YAML", help="Pipeline file; flags override it.")
    parser.add_argument("--dry-run", action="store_true", help="Print the settings, what is read and what is written.")
    parser.add_class_arguments(STAGES[verb], None)
    words = [part for word in words for part in ((word[:-1], "") if re.fullmatch(r"--[\w-]+=", word) else (word,))]
    if "" in words:
        before = words[words.index("") - 1] if words.index("") else "the first path"
        raise UserError(f"{verb}: {before} is empty: give a value, or leave the setting out.")
    try:
        known = {option for action in parser._actions for option in action.option_strings}
        words = _normalise(verb, _without_those_of_others(words, known), known)
        pipeline = _pipeline_of(words)
        if pipeline:
            parser.set_defaults(_checked(verb, pipeline))
        namespace = parser.parse_args(words)
        settings = dict(vars(parser.instantiate_classes(namespace)))
    except (argparse.ArgumentError, jsonargparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(_sentence(verb, error)) from None
    options = {key: settings.pop(key, None) for key in ("config", "dry_run", "paths")}
    for name, value in settings.items():
        numbers = value if isinstance(value, tuple | list) else [value]
        if not all(math.isfinite(one) for one in numbers if isinstance(one, float)):
            raise UserError(f"{verb}: {name} is {shown(value)}, but has to be a finite number.")
    return STAGES[verb](**{key: _tuples(value) for key, value in settings.items()}), options


def _without_those_of_others(words: Sequence[str], known: set[str]) -> list[str]:
    """Drops --run, --seed, --device and --precision if --config is given and the verb does not have them. A pipeline
    YAML does the same with its shared settings. So the same flags can be used for every verb of a pipeline."""
    others = [f"--{name}" for name in SHARED_EVERYWHERE if f"--{name}" not in known]
    if not others or not _pipeline_of(words):
        return list(words)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in others:
        finder.add_argument(flag)
    return finder.parse_known_args(list(words))[1]


def _normalise(verb: str, words: Sequence[str], known: set[str]) -> list[str]:
    """Turns `--lr-drops` into `--lr_drops`, `--save map,mask` into `--save [map,mask]` if the setting is a list, and a
    switch without a value, `--remove`, into `--remove=true`. Words after `--` are not changed."""
    end = words.index("--") if "--" in words else len(words)
    words, untouched = words[:end], words[end:]
    switches = {f"--{field.name}" for field in fields(STAGES[verb]) if field.type is bool}
    hints = {f"--{name}": hint for name, hint in get_type_hints(STAGES[verb]).items()}
    lists = {flag: hint for flag, hint in hints.items() if is_list(hint)}
    paths = {flag for flag, hint in hints.items() if "Path" in str(hint)}
    words = _gathered(words)
    normal: list[str] = []
    given: set[str] = set()
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            name = name if name in known else "--" + name[2:].replace("-", "_")
            if name not in known:
                raise UserError(f"{verb} has no setting {name}: {_advice(verb, name, known)}")
            if name in lists and name in given:
                raise UserError(f"{verb}: {name} is there twice: write all values at once, with commas between them.")
            given.add(name)
            value = _from_home(value, name in lists) if name in paths else value
            word = name + equals + (_bracketed(value, lists[name]) if name in lists and equals else value)
            word += "=true" * (word in switches and following.startswith("--"))
        elif normal and normal[-1] in hints:
            flag = normal[-1]
            word = _from_home(word, flag in lists) if flag in paths else word
            word = _bracketed(word, lists[flag]) if flag in lists else word
        normal.append(word)
    return [*normal, *untouched]


def _from_home(value: str, is_list: bool) -> str:
    """Replaces ~ at the start of a path by the home folder; a shell leaves it in `--output=~/masks` and `a,~/b`."""
    parts = value.split(",") if is_list and not value.startswith("[") else [value]
    return ",".join(map(os.path.expanduser, parts))


def _gathered(words: Sequence[str]) -> list[str]:
    """Turns `--over A --over B` into `--over=["A", "B"]`, for the flags WITH_COMMAS."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in WITH_COMMAS:
        finder.add_argument(f"--{name}", f"--{name.replace('_', '-')}", action="append")
    found, others = finder.parse_known_args(list(words))
    for name, values in vars(found).items():
        if values:
            is_list = len(values) == 1 and values[0].startswith("[")
            others.append(f"--{name}={values[0] if is_list else json.dumps(values)}")
    return others


def _bracketed(value: str, hint: Any) -> str:
    """Returns a list in YAML syntax. Everything but the numbers of a list of numbers is quoted, because words such as
    @FILE, no and 010 are special in YAML."""
    if value.startswith("[") or value in ("null", "None"):
        return value
    if re.search(r"(^|,)\s*[\"']", value):
        return f"[{value}]"  # the user has already quoted values
    words = [word.strip() for word in value.split(",")]
    return f"[{', '.join(_number(word, hint) or json.dumps(word) for word in words)}]"


def _number(word: str, hint: Any) -> str:
    """A number as YAML writes it, 10 for 010; "" for any other word, and for one in a list without numbers."""
    if re.fullmatch(r"[-+]?\d+", word) and re.search(r"\b(int|float)\b", str(hint)):
        # 007 may be the name of a class.
        return "" if re.search(r"\bstr\b", str(hint)) and str(int(word)) != word else str(int(word))
    is_float = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word)
    return word if is_float and re.search(r"\bfloat\b", str(hint)) else ""


def _pipeline_of(words: Sequence[str]) -> str | None:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config")
    return finder.parse_known_args(list(words))[0].config


def _checked(verb: str, pipeline: str) -> dict[str, Any]:
    """Returns the verb's settings in a pipeline YAML. Their values are checked as those of flags are, and lists can be
    written as they are in flags."""
    import jsonargparse

    hints = get_type_hints(STAGES[verb])
    settings = {name: _listed(name, value, hints[name]) for name, value in load_pipeline(Path(pipeline))[verb].items()}
    for name, value in settings.items():
        if value is None and NoneType not in get_args(hints[name]):
            raise UserError(f"{pipeline}: {verb}: {name} is empty: give a value, or leave the line out.")
    checker = jsonargparse.ArgumentParser(exit_on_error=False)
    checker.add_class_arguments(STAGES[verb], None)
    try:
        checker.parse_object(settings)
    except jsonargparse.ArgumentError as error:
        raise UserError(f"{pipeline}: {_sentence(verb, error)}") from None
    return settings


def _listed(name: str, value: Any, hint: Any) -> Any:
    """Turns `save: map,mask` and `scales: 1.5` into lists, if the setting is a list."""
    if not is_list(hint) or isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    values = (value,) if name in WITH_COMMAS else tuple(yaml.safe_load(_bracketed(str(value), hint)))
    return tuple(map(os.path.expanduser, values)) if Path in get_args(hint) else values


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _advice(verb: str, name: str, known: set[str]) -> str:
    if name.startswith("--no_") and (positive := f"--{name[5:]}") in known:
        return f"write {positive} false."
    meant = guess(name[2:], [flag[2:] for flag in known])
    return f"did you mean --{meant}?" if meant else f"saliency-gan {verb} --help lists those that it has."


def _sentence(verb: str, error: BaseException) -> str:
    """Turns a parser's message, which is often long and about Python types, into one line about the setting."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    if wrong := re.match(r'Parser key "(\w+)":?(?:.*(?:Got|Given) value: (.*)$)?', text):
        name, value = wrong.groups()
        if hint := get_type_hints(STAGES[verb]).get(name):
            kind = "a list whose entries are " if is_list(hint) else ""
            meant = guess(value or "", choices(hint))
            return (
                f"{verb}: {name}{f' is {value}, but' if value else ''} has to be {kind}{in_words(hint)}"
                f"{f': did you mean {meant}?' if meant else '.'}"
            )
    if missing := re.match(r"argument (--\w+): expected one argument", text):
        return f"{verb}: {missing[1]} needs a value after it."
    if extra := re.match(r"unrecognized arguments: (.+)", text, re.IGNORECASE):
        advice = "write lists with commas, as in --save map,mask"
        if set(STAGES[verb].__dataclass_fields__) & set(WITH_COMMAS):
            advice += "; give --over and --ablate-units once for each value"
        if extra[1].startswith("-"):
            advice = f"if it is a file, write ./{extra[1].split()[0]}"
        return f"{verb}: {extra[1]} belongs to no setting: {advice}."
    if "arguments are required: paths" in text:
        return f"{verb}: say what is to be marked: photos, videos, or folders of them."
    return f"{verb}: {text.rstrip('.') if len(text) < 300 else text[:300] + ' ..'}."
