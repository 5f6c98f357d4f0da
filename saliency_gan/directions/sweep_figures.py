"""The results of a sweep: means over random seeds, as a Markdown table and as a picture."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from saliency_gan.config import SweepPoint, paper_name, shown, to_plain
from saliency_gan.directions.ablations import PublishedAblation, published_ablation
from saliency_gan.directions.rca import wilson_interval

COUNTING = (
    "RCA is the share of fresh pairs whose direction R names, the mean over the seeds; the spread is the standard"
    " deviation over the seeds; the interval is Wilson's of all pairs together, so it says how exactly these runs were"
    " measured and not how much other seeds would differ. Shift MAE is the mean |eps - eps^| on the same pairs."
)
SHOWN_SETTINGS = (
    "generator", "K", "regression_weight", "deformator", "reconstructor", "steps", "batch", "lr_deformator",
    "lr_reconstructor", "schedule",
)  # fmt: skip
"""Settings that a table lists below its rows, unless they were swept."""


@dataclass(frozen=True)
class SweepResult:
    """Result of one run.

    Attributes:
        point: Its point in the grid.
        rca: Result of `measure_rca`.
        curve: (step, RCA in [0, 1]) during training and at the end.
    """

    point: SweepPoint
    rca: dict[str, float]
    curve: list[tuple[int, float]]


@dataclass(frozen=True)
class Row:
    """All seeds of one combination of settings.

    Attributes:
        values: Values of the swept settings.
        results: One per seed.
        accuracy: Mean RCA over the seeds, in [0, 1].
        spread: Standard deviation of RCA over the seeds (n - 1 in the denominator); None for a single seed.
        low: Lower end of Wilson's 95 % interval of all pairs.
        high: Upper end.
        shift_mae: Mean |eps - eps^| over the seeds.
        published: The paper's result; None if the paper has no such row.
    """

    values: dict[str, Any]
    results: list[SweepResult]
    accuracy: float
    spread: float | None
    low: float
    high: float
    shift_mae: float
    published: PublishedAblation | None

    @property
    def label(self) -> str:
        """The values, for example `K = 16`."""
        return ", ".join(f"{paper_name(name)} = {shown(value)}" for name, value in self.values.items()) or "all"

    def to_json(self) -> dict[str, Any]:
        """Returns all values as plain JSON values."""
        return {
            **{name: getattr(self, name) for name in ("accuracy", "spread", "low", "high", "shift_mae")},
            "settings": to_plain(self.results[0].point.discover),
            "values": {name: shown(value) for name, value in self.values.items()},
            "published": asdict(self.published) if self.published else None,
            "runs": [
                {"seed": result.point.discover.seed, "folder": result.point.slug, "rca": result.rca}
                | {"curve": result.curve}
                for result in self.results
            ],
        }


def figures_of(results: Sequence[SweepResult]) -> list[Row]:
    """Returns one row per combination of settings, in the order of the results."""
    groups: dict[tuple[Any, ...], list[SweepResult]] = {}
    for result in results:
        groups.setdefault(tuple(result.point.values.values()), []).append(result)
    return [_row(group) for group in groups.values()]


def _row(results: list[SweepResult]) -> Row:
    accuracies = [result.rca["accuracy"] for result in results]
    pairs = round(sum(result.rca["samples"] for result in results))
    correct = round(sum(result.rca["accuracy"] * result.rca["samples"] for result in results))
    low, high = wilson_interval(correct, pairs)
    return Row(
        values=results[0].point.values,
        results=results,
        accuracy=mean(accuracies),
        spread=stdev(accuracies) if len(accuracies) > 1 else None,
        low=low,
        high=high,
        shift_mae=mean(result.rca["shift_mae"] for result in results),
        published=published_ablation(results[0].point.discover),
    )


def markdown_table(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Returns Markdown with the rows, their shared settings, an explanation of the columns, and further notes.

    If no row has a published result, the columns for it are left out.
    """
    compared = any(row.published for row in rows)
    heads = [paper_name(name) for name in rows[0].values] if rows else []
    heads += ["seeds", "RCA", "spread", "95 % interval", "shift MAE"]
    heads += ["published RCA", "difference"] if compared else []
    lines = [f"# {title}", "", _line(heads), _line(["---:"] * len(heads))]
    lines += [_line(_cells(row, compared)) for row in rows]
    lines += ["", _shared_settings(rows), "", COUNTING] if rows else []
    sources = dict.fromkeys(row.published.source for row in rows if row.published)
    lines += ["", f"Published (100,000 steps): {'; '.join(sources)}."] if sources else []
    for note in notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _cells(row: Row, compared: bool) -> list[str]:
    spread = "" if row.spread is None else f"{row.spread:.3f}"
    cells = [*map(shown, row.values.values()), str(len(row.results)), f"{row.accuracy:.3f}", spread]
    cells += [f"{row.low:.3f} to {row.high:.3f}", f"{row.shift_mae:.2f}"]
    if compared and row.published:
        cells += [f"{row.published.rca:.2f}", f"{row.accuracy - row.published.rca:+.3f}"]
    return cells + ["", ""] * (compared and row.published is None)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shared_settings(rows: Sequence[Row]) -> str:
    settings = rows[0].results[0].point.discover
    shared = [name for name in SHOWN_SETTINGS if name not in rows[0].values]
    parts = [f"{paper_name(name)} {shown(getattr(settings, name))}" for name in shared]
    return f"Settings: {', '.join(parts)}."


def picture(rows: Sequence[Row]) -> bytes:
    """Plots the final RCA of every combination, with all seeds and the published value, and RCA per step; PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, row in enumerate(rows):
        colour = f"C{place % 10}"
        seeds = [result.rca["accuracy"] for result in row.results]
        left.plot([place] * len(seeds), seeds, "o", color=colour, alpha=0.5)
        left.plot([place - 0.2, place + 0.2], [row.accuracy] * 2, color=colour, linewidth=2.5)
        if row.published:
            left.plot(place, row.published.rca, "x", color="black", markersize=9)
        for number, result in enumerate(row.results):
            steps, accuracies = zip(*result.curve, strict=True)
            right.plot(steps, accuracies, ".-", color=colour, alpha=0.7, label=row.label if number == 0 else None)
    swept = list(rows[0].values)
    ticks = [", ".join(map(shown, row.values.values())) for row in rows]
    left.set_xticks(range(len(rows)), ticks, rotation=30 if len(rows) > 5 else 0)
    left.set(
        xlabel=", ".join(map(paper_name, swept)),
        ylabel="RCA",
        title="at the end; dots: seeds, bar: mean, cross: published",
    )
    right.set(xlabel="step", ylabel="RCA", title="during training")
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
