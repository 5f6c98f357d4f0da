"""The command `saliency-gan`: reads the settings of a verb and calls its function.

The function's module, with its heavy libraries, is imported only when it is called, so `--help` is fast.
"""

import io
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from saliency_gan.cli.arguments import parse
from saliency_gan.cli.values import guess
from saliency_gan.compute import processes
from saliency_gan.compute.allocator import keep_freed_memory
from saliency_gan.config import STAGES, Settings, SweepPoint, sweep_points, to_plain
from saliency_gan.errors import StageError, UserError, one_line
from saliency_gan.storage.run_layout import Input
from saliency_gan.storage.yaml_files import to_yaml

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
  train-student   train a student that knows photos, on that model's marks of unlabelled ones
  adapt           go on training a saliency model on unlabelled photos of your own
  evaluate        measure a saliency model, or finished maps, against ground-truth masks
  predict         saliency maps, masks and cut-outs of photos
  export          a saliency model as ONNX, for other programs
  app             a local page: cut out photos, move along directions
  report          one HTML page about everything in a run folder

saliency-gan VERB --help lists a verb's settings with their units and defaults.
saliency-gan --version prints the version."""

SHARED = ("train-gan", "discover", "masks", "train-saliency", "train-student", "adapt", "evaluate", "predict")
"""Verbs whose work can be shared by the processes of a torchrun job. With all other verbs, every process would do the
same work and write the same files."""


READERS = ("predict", "app", "evaluate", "export", "walk")
"""Verbs that use what a run holds already. If they look into a run that is named on the command line, it has to
exist."""

FUNCTIONS = {
    "generators": "generators.listing.list_generators",
    "train-gan": "generators.train_gan.train_gan",
    "discover": "directions.discovery.discover",
    "eigen": "directions.eigen.eigen",
    "dissect": "dissection.dissect.dissect",
    "sweep": "directions.sweep.sweep",
    "annotate": "directions.annotation.annotate",
    "walk": "directions.walk.walk",
    "rate": "rating.rate.rate",
    "mos": "rating.mos.mos",
    "masks": "masks.synthesis.synthesise",
    "train-saliency": "training.train_saliency.train_saliency",
    "train-student": "training.train_student.train_student",
    "adapt": "training.adapt.adapt",
    "evaluate": "evaluation.evaluate.evaluate",
    "predict": "prediction.predict.predict",
    "export": "saliency.export.export",
    "app": "app.serve.serve_app",
    "report": "reporting.report.report",
}
"""Verb -> the function that it calls, as a path inside of saliency_gan."""

RESUMABLE = {"train-gan", "discover", "sweep", "masks", "train-saliency", "train-student", "adapt", "predict"}
"""Verbs that continue an interrupted call."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: Words of the command line; None takes those of the process.

    Returns:
        Exit code: 0 for success, 1 for a failure during the work, 2 for a user error, 130 for an interrupt.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    processes.quieten()
    processes.wait_asleep()
    _make_streams_usable()
    warnings.showwarning = _show_warning
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # without a home folder it warns about its cache
    try:
        code = _run(words)
        sys.stdout.flush()  # a full disk or a closed pipe behind it shows now, not when the interpreter ends
        return code
    except (UserError, StageError) as error:
        _say(f"saliency-gan: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        again = " with --skip-existing" if words[:1] == ["predict"] else ""
        goes_on = f"; the same command{again} goes on from what was saved" if RESUMABLE.intersection(words[:1]) else ""
        _say(f"\nsaliency-gan: interrupted{goes_on}.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # for example a path that is too long, or standard output on a full disk
        what, where = (str(error), "this path") if error.filename else (error.strerror or str(error), "the output")
        print(f"saliency-gan: {one_line(what)}: look at {where} and try again.", file=sys.stderr)
        return 1


def _make_streams_usable() -> None:
    """Lets stdout and stderr print any file name: what they cannot encode is escaped. If one is closed, its output is
    dropped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(sentence: str) -> None:
    """Prints why a command ends, once per job. SIGTERM is ignored, because torchrun sends it to end the other
    processes."""
    if processes.world_size() > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if processes.speaks():
        print(
            re.sub(r"(?<!\S)--[a-z0-9]+(_[a-z0-9]+)+", lambda flag: flag[0].replace("_", "-"), sentence),
            file=sys.stderr,
        )


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Prints a warning of this package as a sentence, above the progress bars."""
    from tqdm import tqdm

    own = category.__module__.startswith("saliency_gan")
    text = f"saliency-gan: {message}" if own else warnings.formatwarning(message, category, filename, lineno, line)
    tqdm.write(text.rstrip(), file=file or sys.stderr)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb == "--version":
        import saliency_gan

        print(saliency_gan.__version__)
        return 0
    if verb not in STAGES:
        meant = guess(verb, STAGES)
        advice = f"did you mean {meant!r}?" if meant else "saliency-gan --help lists them."
        raise UserError(f"There is no verb {verb!r}: {advice}")
    config, options = parse(verb, rest)
    asks_the_run = any(found.origin != "named" for found in config.inputs().values())
    named = config.run if verb in READERS and asks_the_run and _gives(rest, "--run") else None
    if named is not None and not named.is_dir():
        raise UserError(f"There is no run folder {config.run}: name another one with --run, or leave it out.")
    config.check()
    if options["dry_run"]:
        _print_plan(verb, config, options)
        for point in _points(config, options) if verb == "sweep" else ():
            print(f"  {point.discover.run}")
        return 0
    if processes.world_size() > 1 and verb not in SHARED:
        raise UserError(f"{verb} is done by one process: call it without torchrun, which is for {', '.join(SHARED)}.")
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _interrupt)
    keep_freed_memory()
    if verb == "predict":
        from saliency_gan.prediction.jobs import check_paths

        check_paths([Path(path) for path in options["paths"]])
    inputs = _inputs(verb, config, options)
    if inputs and processes.is_main():
        print(", ".join(f"{title}: {found}" for title, found in inputs.items()), file=sys.stderr)
    try:
        return _run_verb(verb, config, options)
    except (MemoryError, RuntimeError) as error:
        from saliency_gan.compute.failures import explain

        if explanation := explain(error, config):
            raise explanation from error
        raise


def _interrupt(*_: object) -> None:
    """Handles SIGTERM, and the SIGHUP of a terminal that was closed, like Ctrl-C, so that the work is saved. It works
    even if Ctrl-C is ignored, as in a background job of a script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _gives(words: Sequence[str], flag: str) -> bool:
    return any(word.partition("=")[0] == flag for word in words)


def _inputs(verb: str, config: Settings, options: dict[str, Any]) -> dict[str, Input]:
    """Inputs of a verb from a run, the package or the user. Training on pairs made on the fly has the inputs of
    masks."""
    on_the_fly = verb == "train-saliency" and getattr(config, "source", None) == "generator"
    return (_masks_settings(config, options) if on_the_fly else config).inputs()


def _print_plan(verb: str, config: Settings, options: dict[str, Any]) -> None:
    print(to_yaml({verb: to_plain(config)}), end="")
    inputs = _inputs(verb, config, options)
    named = {found.path for found in inputs.values()}
    print("reads:")
    for title, found in inputs.items():
        print(f"  {title}: {found}{'  (missing)' * found.is_missing}")
    for path in (*map(Path, options["paths"] or ()), *config.reads()):
        if path not in named:
            print(f"  {path}{'' if path.exists() else '  (missing)'}")
    print("writes:", *(f"  {path}" for path in config.writes()), sep="\n")


def _run_verb(verb: str, config: Any, options: dict[str, Any]) -> int:
    """Calls the function of a verb. Returns the exit code: 1 if any of its files or points failed."""
    module, _, name = FUNCTIONS[verb].rpartition(".")
    function = getattr(import_module(f"saliency_gan.{module}"), name)
    if verb == "predict":
        return 1 if function(config, [Path(path) for path in options["paths"]]) else 0
    if verb == "sweep":
        return 1 if function(config, _points(config, options)) else 0
    others = [_masks_settings(config, options)] if verb == "train-saliency" else []
    function(config, *others)
    return 0


def _points(config: Any, options: dict[str, Any]) -> list[SweepPoint]:
    """The grid of a sweep over the pipeline's settings of discover."""
    return sweep_points(config, _settings_of("discover", options))


def _masks_settings(config: Any, options: dict[str, Any]) -> Any:
    """Settings of masks in the same pipeline, for the same run, seed, device and precision."""
    masks = _settings_of("masks", options)
    return replace(masks, run=config.run, seed=config.seed, device=config.device, precision=config.precision)


def _settings_of(verb: str, options: dict[str, Any]) -> Any:
    return parse(verb, ["--config", options["config"]] if options["config"] else [])[0]
