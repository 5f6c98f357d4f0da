"""`sweep`: runs stage 1 over a grid of settings, one run per point, and writes a table and a picture of the results."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from saliency_gan.config import DiscoverConfig, SweepConfig, SweepPoint, to_plain
from saliency_gan.directions.discovery import CHANGEABLE, discover
from saliency_gan.directions.sweep_figures import SweepResult, figures_of, markdown_table, picture
from saliency_gan.errors import StageError, UserError
from saliency_gan.generators.zoo import load_chosen
from saliency_gan.runs.side_by_side import side_by_side
from saliency_gan.runs.stage_folder import RESUMABLE_SETTINGS, StageFolder
from saliency_gan.storage.files import read_json, write_bytes, write_json, write_text
from saliency_gan.storage.locks import working_in
from saliency_gan.storage.run_layout import GeneratorChoice

IMMATERIAL = (RESUMABLE_SETTINGS | CHANGEABLE) - {"steps", "rca_samples"}
"""Settings of discover that do not change the results of a point."""


def sweep(config: SweepConfig, points: Sequence[SweepPoint]) -> int:
    """Runs `discover` for every point, or uses an earlier result of it, and writes the results after each point.

    If a point fails, its error is printed and the other points still run. An interrupted sweep resumes when it is
    called again.

    Args:
        config: The settings of the sweep.
        points: The grid, see `sweep_points`.

    Returns:
        Number of points that failed.

    Raises:
        UserError: If a generator cannot be loaded.
        StageError: If a file cannot be written.
    """
    config.check()
    choices = {point.discover.choice for point in points}
    sha256 = {choice: load_chosen(choice).sha256 for choice in choices}
    with working_in(config.run / "sweep", "--run"):
        return _run_points(config, points, sha256)


def _run_points(config: SweepConfig, points: Sequence[SweepPoint], sha256: dict[GeneratorChoice, str]) -> int:
    done: set[str] = set()
    failed: dict[str, str] = {}
    results: list[SweepResult] = []
    for point, error in _computed(config, points, sha256):
        done.add(point.slug)
        if error is not None:
            failed[point.slug] = error
            print(f"{point.slug} failed: {error}", flush=True)
        results = [_result(one) for one in points if one.slug in done - failed.keys()]
        _write(config, results, failed, unfinished=len(points) - len(done))
    print(f"{config.run / 'sweep' / config.title}.md:\n{_table(config, results, failed)}", end="")
    return len(failed)


def _computed(
    config: SweepConfig, points: Sequence[SweepPoint], sha256: dict[GeneratorChoice, str]
) -> Iterator[tuple[SweepPoint, str | None]]:
    """Computes the points, and yields each of them when it ends, with the error if it failed."""
    work = partial(_compute, sha256=sha256)
    if config.jobs == 1:
        for number, point in enumerate(points, start=1):
            print(f"[{number}/{len(points)}] {point.slug}", flush=True)
            yield point, work(point)
        return
    began = time.monotonic()
    for number, (point, error) in enumerate(side_by_side(work, points, config.jobs), start=1):
        minutes = (time.monotonic() - began) / 60
        print(f"[{number}/{len(points)}] {point.slug} ended after {minutes:.1f} minutes", flush=True)
        yield point, str(error) if error is not None else None


def _compute(point: SweepPoint, sha256: dict[GeneratorChoice, str]) -> str | None:
    """Runs `discover` unless its results are there. Returns the error as one line, which must not stop other points."""
    settings = point.discover
    try:
        if not _is_done(settings, sha256[settings.choice]):
            discover(settings)
        if not _rca(point):
            raise UserError(f"{point.slug} has no RCA: give --rca_samples above 0 in the pipeline's discover section.")
    except Exception as error:
        reason = str(error) if isinstance(error, UserError | StageError) else f"{type(error).__name__}: {error}"
        return " ".join(reason.split())
    return None


def _is_done(settings: DiscoverConfig, generator_sha256: str) -> bool:
    """Whether the point's folder holds the results of exactly these settings and this generator.

    Raises:
        UserError: If it was trained for more steps than these settings have.
    """
    path = settings.run / "discover" / "directions.json"
    if not path.exists():
        return False
    found = read_json(path)
    before, now = found["config"], to_plain(settings)
    if before["steps"] > now["steps"]:
        raise UserError(
            f"{path.parent} was trained for {before['steps']} steps already, more than the {now['steps']} asked for:"
            " ask for as many, or choose another --run."
        )
    same = all(before.get(name) == value for name, value in now.items() if name not in IMMATERIAL)
    return same and found["generator"]["sha256"] == generator_sha256 and "shift_mae" in found["rca"]


def _rca(point: SweepPoint) -> dict[str, float]:
    rca: dict[str, float] = read_json(point.discover.run / "discover" / "directions.json")["rca"]
    return rca


def _result(point: SweepPoint) -> SweepResult:
    rca, lines = _rca(point), StageFolder(point.discover, "discover").read_metrics()
    steps = point.discover.steps
    curve = [(int(line["step"]), line["rca"]) for line in lines if "rca" in line and line["step"] < steps]
    return SweepResult(point, rca, [*curve, (steps, rca["accuracy"])])


def _write(config: SweepConfig, results: Sequence[SweepResult], failed: dict[str, str], unfinished: int) -> None:
    def path(suffix: str) -> Path:
        return config.run / "sweep" / f"{config.title}{suffix}"

    rows = figures_of(results)
    content: dict[str, Any] = {"over": list(config.over), "unfinished": unfinished, "failed": failed}
    write_json(path(".json"), content | {"rows": [row.to_json() for row in rows]})
    write_text(path(".md"), _table(config, results, failed))
    if rows:
        write_bytes(path(".png"), picture(rows))


def _table(config: SweepConfig, results: Sequence[SweepResult], failed: dict[str, str]) -> str:
    notes = [f"Failed: {slug}: {reason}" for slug, reason in failed.items()]
    return markdown_table(f"RCA over {config.title}", figures_of(results), notes)
