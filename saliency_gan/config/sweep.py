"""Settings of `sweep`, and the grid of `discover` settings that they stand for."""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from saliency_gan.config.discover import DiscoverConfig
from saliency_gan.config.stage import StageConfig
from saliency_gan.errors import UserError

ALIASES = {"lambda": "regression_weight"}
"""The paper's names of settings."""
OF_THE_SWEEP = {"run": "--run", "seed": "--seeds", "device": "--device"}
"""Settings of discover that the sweep gives itself, and with what."""
ALWAYS_NAMED = ("K", "regression_weight", "deformator")
"""Settings in the name of every point, so that sweeps over one of them share the points they have in common."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig(StageConfig):
    """Runs discover on every combination of some settings and tabulates the RCA, beside published figures.

    Args:
        over: A setting and its values, discover.NAME=VALUE,VALUE,...; given once a setting. A single value holds for
            every point. discover.lambda stands for discover.regression_weight. Everything else is as in the pipeline's
            discover section, but no gallery is drawn.
        seeds: Seeds that every combination is run with; by default --seed alone.
    """

    over: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        swept_values(self.over)
        _refuse_repeated("--seeds", self.seeds or ())

    def writes(self) -> list[Path]:
        return [self.run / "sweep" / f"{self.title}{suffix}" for suffix in (".md", ".json", ".png")]

    @property
    def title(self) -> str:
        """The settings with several values by the paper's names, for example K+lambda; what the results are called."""
        several = [paper_name(setting) for setting, values in swept_values(self.over).items() if len(values) > 1]
        return "+".join(several) or "seeds"


@dataclass(frozen=True)
class SweepPoint:
    """One run of a sweep.

    Attributes:
        values: Its value of every setting that has several.
        discover: All settings of the run.
    """

    values: dict[str, Any]
    discover: DiscoverConfig

    @property
    def slug(self) -> str:
        """Name of the point's run folder."""
        return self.discover.run.name


def sweep_points(config: SweepConfig, base: DiscoverConfig) -> list[SweepPoint]:
    """The grid, all seeds of a combination one after the other.

    Args:
        config: What to sweep over, the seeds and the run folder.
        base: The settings that are not swept.

    """
    swept = swept_values(config.over)
    base = replace(base, run=config.run).resolved()
    seeds = config.seeds or (config.seed,)
    points = []
    for combination in itertools.product(*swept.values()):
        settings = dict(zip(swept, combination, strict=True))
        values = {setting: value for setting, value in settings.items() if len(swept[setting]) > 1}
        for seed in seeds:
            point = replace(base, **{"gallery_samples": 0, **settings}, seed=seed, device=config.device)
            points.append(SweepPoint(values, replace(point, run=config.run / "sweep" / _slug(point, values))))
    return points


def swept_values(over: Iterable[str]) -> dict[str, list[Any]]:
    """Reads `discover.K=16,32` as {"K": [16, 32]}, with values of the setting's type.

    Raises:
        UserError: If a setting or a value is none that discover has, or one is given twice.
    """
    swept: dict[str, list[Any]] = {}
    for entry in over:
        name, _, text = entry.partition("=")
        setting = _setting(name.strip())
        if setting in swept:
            raise UserError(f"--over {name} is given twice: give all its values at once, separated by commas.")
        texts = [part.strip() for part in text.split(",")]
        if not all(texts):
            raise UserError(f"--over {entry}: give values separated by commas, for example discover.K=16,32,64,128.")
        swept[setting] = [_typed(setting, part) for part in texts]
        _refuse_repeated(f"--over {name}", swept[setting])
    return swept


def paper_name(setting: str) -> str:
    """What tables call a setting: lambda for regression_weight, others as they are."""
    return next((alias for alias, name in ALIASES.items() if name == setting), setting)


def shown(value: Any) -> str:
    """A value as tables and folders write it: 0.25, and 2 rather than 2.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _setting(name: str) -> str:
    known = {field.name: field.type for field in fields(DiscoverConfig)}
    stage, _, given = name.rpartition(".")
    setting = ALIASES.get(given, given)
    if stage != "discover" or setting not in known:
        near = difflib.get_close_matches(given, [*known, *ALIASES], n=1, cutoff=0.0)[0]
        raise UserError(f"--over {name}: that is no setting of discover; did you mean discover.{near}?")
    if setting in OF_THE_SWEEP:
        raise UserError(f"--over {name}: use {OF_THE_SWEEP[setting]} instead.")
    if "tuple[" in str(known[setting]):
        raise UserError(f"--over {name}: a setting that is itself a list cannot be swept; give it in the pipeline.")
    return setting


def _typed(setting: str, text: str) -> Any:
    import jsonargparse

    kind = next(field.type for field in fields(DiscoverConfig) if field.name == setting)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    try:
        return parser.parse_args([f"--value={text}"]).value
    except (jsonargparse.ArgumentError, ValueError, TypeError):
        hint = f"expected {getattr(kind, '__name__', kind)}"
        if get_origin(kind) is Literal:
            hint = f"did you mean {difflib.get_close_matches(text, get_args(kind), n=1, cutoff=0.0)[0]}?"
        raise UserError(f"--over discover.{setting}: {text!r} is no value of it; {hint}") from None


def _refuse_repeated(flag: str, values: Iterable[Any]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise UserError(f"{flag} holds {repeated[0]} twice: give every value once.")


def _slug(point: DiscoverConfig, values: Iterable[str]) -> str:
    named = dict.fromkeys((*ALWAYS_NAMED, *values))
    parts = [f"{paper_name(setting)}-{shown(getattr(point, setting))}" for setting in named]
    return re.sub(r"[^\w.+-]", "-", "_".join([*parts, f"seed-{point.seed}"]))
