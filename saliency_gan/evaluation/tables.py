"""The figures of an evaluation as a table: on the terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from saliency_gan.evaluation.metrics import METRICS

COUNTING = (
    "MAE, IoU and accuracy (threshold 0.5) take a map as it is; F (beta^2 = 0.3), weighted F, S and E take it stretched to"
    " [0, 1]; max and mean F are those of the mean curve; everything is the mean over the images at the masks' sizes."
)
LESS_IS_BETTER = ("mae",)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What was measured.
        kind: model, compared, baseline or published.
        figures: Values under keys of METRICS; what is missing was not measured.
        supervision: What a published method was told, and by whom it was published.
    """

    name: str
    kind: str
    figures: dict[str, float]
    supervision: str = ""


def rich_table(title: str, rows: Sequence[Row]) -> Table:
    """The table for the terminal."""
    table = Table(title=title, caption=COUNTING)
    table.add_column("")
    table.add_column("supervision")
    for key, name in METRICS.items():
        table.add_column(_heading(key, name), justify="right")
    previous = rows[0].kind if rows else ""
    for row in rows:
        if row.kind != previous:
            table.add_section()
        previous = row.kind
        table.add_row(row.name, _told(row), *_cells(row), style="bold" if row.kind == "model" else "")
    return table


def markdown_table(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The same table in Markdown, with how one counts and further notes under it."""
    lines = [
        f"# {title}",
        "",
        "| | supervision | " + " | ".join(_heading(key, name) for key, name in METRICS.items()) + " |",
        "|---|---|" + "---:|" * len(METRICS),
    ]
    for row in rows:
        name = f"**{_escape(row.name)}**" if row.kind == "model" else _escape(row.name)
        lines.append(f"| {name} | {_escape(_told(row))} | " + " | ".join(_cells(row)) + " |")
    lines += ["", COUNTING]
    for note in notes:
        lines += ["", _escape(note)]
    return "\n".join(lines) + "\n"


def _heading(key: str, name: str) -> str:
    return f"{name} {'↓' if key in LESS_IS_BETTER else '↑'}"


def _told(row: Row) -> str:
    return row.supervision or {"baseline": "none, baseline"}.get(row.kind, "")


def _cells(row: Row) -> list[str]:
    return [f"{row.figures[key]:.3f}" if key in row.figures else "" for key in METRICS]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
