"""The command `saliency-gan`: one function a verb that parses and calls, nothing else.

Heavy libraries are imported by the verb that needs them, so `--help` answers at once.
"""

import argparse
import difflib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from saliency_gan import processes
from saliency_gan.allocator import keep_freed_memory
from saliency_gan.config import STAGES, StageConfig, SweepPoint, sweep_points, to_plain
from saliency_gan.errors import StageError, UserError, one_line
from saliency_gan.pipeline import load_pipeline

USAGE = """usage: saliency-gan VERB [--config YAML] [--SETTING VALUE ...]

saliency masks without labels, from the latent directions of a frozen GAN

verbs, in the order of the pipeline:
  generators      what generators there are, with their size, licence and preset
  train-gan       train a generator on your own images: BigGAN, SN-GAN or EigenGAN
  discover        stage 1: find latent directions and choose the background direction
  eigen           what the layers of an EigenGAN hold, on a page
  dissect         which units of a generator paint what, and what happens without them
  sweep           stage 1 over a grid of settings: one table and one plot of the RCA
  annotate        name directions of stage 1
  walk            an animation or a strip of the images along a direction
  rate            a local page on which people judge directions, blind
  mos             what they answered: MOS, its intervals and the raters' agreement
  masks           stage 2: synthesise pairs of images and masks
  train-saliency  stage 3: train a saliency model on those pairs
  adapt           self-train the saliency model on unlabelled photos
  evaluate        measure a saliency model, or finished maps, against drawn masks
  predict         saliency maps, masks and cut-outs of photos
  export          a saliency model as ONNX or TorchScript, for other programs
  app             a local page: cut out photos, move along directions
  report          one HTML page about everything in a run folder

saliency-gan VERB --help lists a verb's settings with their units and defaults."""

SHARED = ("train-gan", "discover", "masks", "train-saliency", "adapt", "evaluate", "predict")
"""Verbs whose work several processes of a torchrun job share; the others would do it once each, in each other's way."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: Words of the command line; None takes those of the process.

    Returns:
        Exit code: 0 done, 1 a failure on the way, 2 a mistake in what was asked, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    processes.quieten()
    try:
        return _run(words)
    except (UserError, StageError) as error:
        _say(f"saliency-gan: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("\nsaliency-gan: interrupted; the same command goes on from the last checkpoint.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # such as of a path that is too long, or a folder that may not be looked into
        print(f"saliency-gan: {one_line(str(error))}: look at this path and try again.", file=sys.stderr)
        return 1


def _say(sentence: str) -> None:
    """Says why a command ends, once a job, whatever signal torchrun sends meanwhile to end its other processes."""
    if processes.world_size() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if processes.speaks():
        print(sentence, file=sys.stderr)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb == "--version":
        from importlib.metadata import version

        print(version("saliency-gan"))
        return 0
    if verb not in STAGES:
        raise UserError(f"There is no verb {verb!r}: did you mean {_nearest(verb, STAGES)!r}?")
    config, options = parse(verb, rest)
    if options["dry_run"]:
        _print_plan(verb, config)
        for point in _points(config, options) if verb == "sweep" else ():
            print(f"  {point.discover.run}")
        return 0
    if processes.world_size() > 1 and verb not in SHARED:
        raise UserError(f"{verb} is done by one process: call it without torchrun, which is for {', '.join(SHARED)}.")
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # what ends a job saves, too
    keep_freed_memory()
    return VERBS[verb](config, options)


def parse(verb: str, words: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Resolves the settings of a verb: defaults, then the pipeline YAML, then flags.

    Args:
        verb: A key of `STAGES`.
        words: What follows the verb on the command line.

    Returns:
        The stage's config, and what is no setting: "config", "dry_run" and, for predict, "paths".

    Raises:
        UserError: If a flag, a key or a value is not valid.
    """
    import jsonargparse

    parser = jsonargparse.ArgumentParser(
        prog=f"saliency-gan {verb}",
        description=(STAGES[verb].__doc__ or "").partition("\n\n")[0],
        exit_on_error=False,
        usage=f"saliency-gan {verb} {'PATH ... ' * (verb == 'predict')}[--config YAML] [--SETTING VALUE ...]",
    )
    if verb == "predict":
        parser.add_argument("paths", nargs="+", type=str, metavar="PATH", help="Photos, videos, and folders of them.")
    parser.add_argument("--config", type=str | None, metavar="YAML", help="Pipeline file; flags override it.")
    parser.add_argument("--dry-run", action="store_true", help="Print the settings, what is read and what is written.")
    parser.add_class_arguments(STAGES[verb], None)
    try:
        words = _normalise(verb, words, {option for action in parser._actions for option in action.option_strings})
        pipeline = _pipeline_of(words)
        if pipeline:
            parser.set_defaults(_checked(verb, pipeline))
        namespace = parser.parse_args(words)
        settings = dict(vars(parser.instantiate_classes(namespace)))
    except (argparse.ArgumentError, jsonargparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"{verb}: {_sentence(error)}") from None
    options = {key: settings.pop(key, None) for key in ("config", "dry_run", "paths")}
    return STAGES[verb](**{key: _tuples(value) for key, value in settings.items()}), options


def _normalise(verb: str, words: Sequence[str], known: set[str]) -> list[str]:
    """Takes `--lr-drops` for `--lr_drops`, `--save map,mask` for `--save [map,mask]` where a setting is a list, and a
    switch without a value, `--remove`, for `--remove true`. What follows `--` stays as it is."""
    end = words.index("--") if "--" in words else len(words)
    words, untouched = words[:end], words[end:]
    switches = {f"--{field.name}" for field in fields(STAGES[verb]) if field.type is bool}
    lists = {f"--{field.name}" for field in fields(STAGES[verb]) if "tuple[" in str(field.type)}
    words = _gathered(words)
    normal: list[str] = []
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            name = name if name in known else "--" + name[2:].replace("-", "_")
            if name not in known:
                raise UserError(f"{verb} has no setting {name}: did you mean {_nearest(name, known)}?")
            word = name + equals + (_bracketed(value) if name in lists and equals else value)
            word += "=true" * (word in switches and following.startswith("--"))
        elif normal and normal[-1] in lists:
            word = _bracketed(word)
        normal.append(word)
    return [*normal, *untouched]


def _gathered(words: Sequence[str]) -> list[str]:
    """Takes `--over A --over B` for `--over ["A", "B"]`, where what follows holds commas itself."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--over", action="append")
    finder.add_argument("--ablate_units", "--ablate-units", action="append")
    found, others = finder.parse_known_args(list(words))
    for name, values in vars(found).items():
        if values:
            is_list = len(values) == 1 and values[0].startswith("[")
            others.append(f"--{name}={values[0] if is_list else json.dumps(values)}")
    return others


def _bracketed(value: str) -> str:
    """A list as YAML has it. Whatever is no number is quoted, for YAML has ideas about words such as @FILE and no."""
    if value.startswith("[") or value in ("null", "None"):
        return value
    if re.search(r"(^|,)\s*[\"']", value):
        return f"[{value}]"  # with quotes of the user's own
    words = [word.strip() for word in value.split(",")]
    number = r"[-+]?[\d._]*([eE][-+]?\d+)?"
    return f"[{', '.join(word if re.fullmatch(number, word) else json.dumps(word) for word in words)}]"


def _pipeline_of(words: Sequence[str]) -> str | None:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config")
    return finder.parse_known_args(list(words))[0].config


def _checked(verb: str, pipeline: str) -> dict[str, Any]:
    """The verb's settings in a pipeline YAML, whose values are checked as flags are."""
    import jsonargparse

    settings = load_pipeline(Path(pipeline))[verb]
    checker = jsonargparse.ArgumentParser(exit_on_error=False)
    checker.add_class_arguments(STAGES[verb], None)
    try:
        checker.parse_object(settings)
    except jsonargparse.ArgumentError as error:
        raise UserError(f"{pipeline}: {verb}: {_sentence(error)}") from None
    return settings


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _sentence(error: BaseException) -> str:
    """A parser's message, often many lines long, as one line."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    text = re.sub(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|typing\.)?", r"expected \1", text)
    return text if len(text) < 300 else text[:300] + " ..."


def _nearest(name: str, known: Any) -> str:
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]


def _print_plan(verb: str, config: StageConfig) -> None:
    import yaml

    print(yaml.safe_dump({verb: to_plain(config)}, sort_keys=False), end="")
    for title, paths in (("reads", config.reads()), ("writes", config.writes())):
        print(f"{title}:")
        for path in paths:
            print(f"  {path}{'' if title == 'writes' or path.exists() else '  (missing)'}")


def _generators(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.generators.listing import list_generators

    list_generators(config)
    return 0


def _train_gan(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.generators.training import train_gan

    train_gan(config)
    return 0


def _discover(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.directions.discovery import discover

    discover(config)
    return 0


def _eigen(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.directions.eigen import eigen

    eigen(config)
    return 0


def _dissect(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.dissection.dissect import dissect

    dissect(config)
    return 0


def _sweep(config: Any, options: dict[str, Any]) -> int:
    from saliency_gan.directions.sweep import sweep

    return 1 if sweep(config, _points(config, options)) else 0


def _points(config: Any, options: dict[str, Any]) -> list[SweepPoint]:
    base, _ = parse("discover", ["--config", options["config"]] if options["config"] else [])
    return sweep_points(config, base)


def _annotate(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.directions.annotation import annotate

    annotate(config)
    return 0


def _walk(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.directions.walk import walk

    walk(config)
    return 0


def _rate(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.rating.rate import rate

    rate(config)
    return 0


def _mos(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.rating.mos import mos

    mos(config)
    return 0


def _masks(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.masks.synthesis import synthesise

    synthesise(config)
    return 0


def _train_saliency(config: Any, options: dict[str, Any]) -> int:
    from saliency_gan.saliency.training import train_saliency

    masks, _ = parse("masks", ["--config", options["config"]] if options["config"] else [])
    train_saliency(config, replace(masks, run=config.run))
    return 0


def _adapt(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.saliency.adaptation import adapt

    adapt(config)
    return 0


def _evaluate(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.evaluation.evaluate import evaluate

    evaluate(config)
    return 0


def _predict(config: Any, options: dict[str, Any]) -> int:
    from saliency_gan.prediction.predict import predict

    return 1 if predict(config, [Path(path) for path in options["paths"]]) else 0


def _export(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.saliency.export import export

    export(config)
    return 0


def _app(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.app.serve import serve_app

    serve_app(config)
    return 0


def _report(config: Any, _: dict[str, Any]) -> int:
    from saliency_gan.report import report

    report(config)
    return 0


VERBS: dict[str, Callable[[Any, dict[str, Any]], int]] = {
    "generators": _generators,
    "train-gan": _train_gan,
    "discover": _discover,
    "eigen": _eigen,
    "dissect": _dissect,
    "sweep": _sweep,
    "annotate": _annotate,
    "walk": _walk,
    "rate": _rate,
    "mos": _mos,
    "masks": _masks,
    "train-saliency": _train_saliency,
    "adapt": _adapt,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
    "app": _app,
    "report": _report,
}


if __name__ == "__main__":
    sys.exit(main())
