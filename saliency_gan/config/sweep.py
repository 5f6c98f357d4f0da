"""Settings of `sweep`, and the grid of `discover` settings that they describe."""

import difflib
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from saliency_gan.config.checks import require_positive
from saliency_gan.config.discover import DiscoverConfig
from saliency_gan.config.stage import StageConfig
from saliency_gan.errors import UserError

ALIASES = {"lambda": "regression_weight"}
"""Name of a setting in the paper -> its name here."""
OF_THE_SWEEP = {"run": "--run", "seed": "--seeds", "device": "--device"}
"""Settings of discover that the sweep sets itself -> the flag to use instead."""
WITHOUT_BACKGROUND = {"gallery_samples": 0, "method": "rank", "direction": None}
"""Settings of discover with which h_bg, which a sweep does not use, takes the least time."""
ALWAYS_NAMED = ("K", "regression_weight", "deformator")
"""Settings in the folder name of every point, so that different sweeps share the points that they have in common."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig(StageConfig):
    """Runs discover with every combination of some settings and tabulates the RCA beside published results.

    Args:
        over: A setting and its values, discover.NAME=VALUE,VALUE,..., once for each setting. A single value is used for
            every point. discover.lambda means discover.regression_weight. All other settings are those of the
            pipeline's discover section, but no gallery is drawn.
        seeds: Random seeds; every combination is run with each of them; by default only --seed.
        jobs: Runs at the same time, each in a process of its own with an equal share of the cores.
    """

    over: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    jobs: int = 1

    def check(self) -> None:
        require_positive(self, "jobs")
        if self.jobs > 1 and sys.platform == "win32":
            raise UserError("--jobs above 1 does not work on Windows: leave it out.")

    def __post_init__(self) -> None:
        super().__post_init__()
        swept_values(self.over)
        _refuse_repeated("--seeds", self.seeds or ())

    def writes(self) -> list[Path]:
        return [self.run / "sweep" / f"{self.title}{suffix}" for suffix in (".md", ".json", ".png")]

    @property
    def title(self) -> str:
        """Name of the results: the settings with several values under their names in the paper, for example K+lambda.
        The only value of a setting that names the points' folders is added, for example K+lambda-0.5."""
        swept = swept_values(self.over).items()
        several = [paper_name(setting) for setting, values in swept if len(values) > 1] or ["seeds"]
        single = [
            f"{paper_name(setting)}-{shown(values[0])}"
            for setting, values in swept
            if len(values) == 1 and setting in ALWAYS_NAMED
        ]
        return _as_file_name("+".join([*several, *single]))


@dataclass(frozen=True)
class SweepPoint:
    """One run of a sweep.

    Attributes:
        values: The point's value of each setting that has several values in the sweep.
        discover: All settings of the run.
    """

    values: dict[str, Any]
    discover: DiscoverConfig

    @property
    def slug(self) -> str:
        """Name of the point's run folder."""
        return self.discover.run.name


def sweep_points(config: SweepConfig, base: DiscoverConfig) -> list[SweepPoint]:
    """Returns the grid; the seeds of a combination follow one another.

    Args:
        config: What to sweep over, the seeds and the run folder.
        base: The settings that are not swept.

    Raises:
        UserError: If two points would have the same folder.
    """
    swept = swept_values(config.over)
    base = replace(base, run=config.run).resolved()
    seeds = config.seeds or (config.seed,)
    points = []
    for combination in itertools.product(*swept.values()):
        settings = dict(zip(swept, combination, strict=True))
        values = {setting: value for setting, value in settings.items() if len(swept[setting]) > 1}
        for seed in seeds:
            point = replace(base, **{**WITHOUT_BACKGROUND, **settings}, seed=seed, device=config.device)
            points.append(SweepPoint(values, replace(point, run=config.run / "sweep" / _slug(point, values))))
    slug, count = Counter(point.slug for point in points).most_common(1)[0]
    if count > 1:
        raise UserError(f"--over has values so alike that two points would share the folder {slug}: leave one out.")
    return points


def swept_values(over: Iterable[str]) -> dict[str, list[Any]]:
    """Reads `discover.K=16,32` as {"K": [16, 32]}, with values of the setting's type.

    Raises:
        UserError: If discover does not have a setting or does not accept a value, or one is given twice.
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
    """The name of a setting in tables: lambda for regression_weight, other names unchanged."""
    return next((alias for alias, name in ALIASES.items() if name == setting), setting)


def shown(value: Any) -> str:
    """Formats a value for tables and folder names: 0.25, and 2 instead of 2.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _setting(name: str) -> str:
    known = {field.name: field.type for field in fields(DiscoverConfig)}
    stage, _, given = name.rpartition(".")
    setting = ALIASES.get(given, given)
    if stage != "discover" or setting not in known:
        near = difflib.get_close_matches(given, [*known, *ALIASES], n=1)
        advice = f"did you mean discover.{near[0]}?" if near else "saliency-gan discover --help lists them."
        raise UserError(f"--over {name}: that is no setting of discover; {advice}")
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
            hint = f"did you mean {difflib.get_close_matches(text, map(str, get_args(kind)), n=1, cutoff=0.0)[0]}?"
        raise UserError(f"--over discover.{setting}: {text!r} is no value of it; {hint}") from None


def _refuse_repeated(flag: str, values: Iterable[Any]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise UserError(f"{flag} holds {repeated[0]} twice: give every value once.")


def _slug(point: DiscoverConfig, values: Iterable[str]) -> str:
    named = dict.fromkeys((*ALWAYS_NAMED, *values))
    parts = [f"{paper_name(setting)}-{shown(getattr(point, setting))}" for setting in named]
    return _as_file_name("_".join([*parts, f"seed-{point.seed}"]))


def _as_file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]", "-", text)
