"""The figures of an evaluation as a table, for the terminal and in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from saliency_gan.evaluation.metrics import METRICS

COUNTING = (
    "MAE, IoU and accuracy (threshold 0.5) take a map as it is; F (beta^2 = 0.3), weighted F, S and E take it stretched"
    " to [0, 1]; max and mean F are those of the mean curve; all are means over the images, at the masks' sizes."
)
TABLE_START = "| | supervision | "
OURS = {"bundled": "class labels, ImageNet's too"}
"""The supervision of our model besides the photos; that of a user's own model is not known."""
LESS_IS_BETTER = ("mae",)
SHORT_HEADINGS = {"adaptive_f": "ad. F", "weighted_f": "w. F", "accuracy": "acc."}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Name of the model, maps or method.
        kind: model, compared, baseline or published.
        figures: Key of METRICS -> value; figures that were not measured are missing.
        supervision: The supervision of a published method, or of the bundled model, besides the photos.
        source: The paper that published it.
    """

    name: str
    kind: str
    figures: dict[str, float]
    supervision: str = ""
    source: str = ""


def table_rows(result: Mapping[str, Any]) -> list[Row]:
    """The lines of the table, from the JSON that `evaluate` wrote."""
    rows = [Row(result["model_name"], "model", result["model"], OURS.get(result["model_name"], ""))]
    rows += [Row(name, "compared", figures, OURS.get(name, "")) for name, figures in result["compared"].items()]
    rows += [Row(name, "baseline", figures) for name, figures in result["baselines"].items()]
    rows += [
        Row(row["method"], "published", row["figures"], row["supervision"], row["source"])
        for row in result["published"]
    ]
    return rows


def rich_table(title: str, rows: Sequence[Row]) -> Table:
    """The table for a terminal of 80 columns or more."""
    table = Table(title=Text(title), caption=COUNTING, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("")
    for key, name in METRICS.items():
        table.add_column(Text(SHORT_HEADINGS.get(key, name)), justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        figures = [Text(cell.removeprefix("0")) for cell in cells(row)]
        last = following is None or following.kind != row.kind
        style = "bold" if row.kind == "model" else ""
        label = Text(f"{row.name} ({row.supervision})" if row.supervision else row.name)
        table.add_row(label, *figures, style=style, end_section=last)
    return table


def markdown_table(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The same table in Markdown. Below it are the explanation of the metrics and further notes."""
    lines = [
        f"# {title}",
        "",
        TABLE_START + " | ".join(heading(key, name) for key, name in METRICS.items()) + " |",
        "|---|---|" + "---:|" * len(METRICS),
    ]
    for row in rows:
        name = _escape(f"{row.name} ({row.source})" if row.source else row.name)
        name = f"**{name}**" if row.kind == "model" else name
        lines.append(f"| {name} | {_escape(told(row))} | " + " | ".join(cells(row)) + " |")
    lines += ["", COUNTING]
    for note in notes:
        lines += ["", _escape(note)]
    return "\n".join(lines) + "\n"


def heading(key: str, name: str) -> str:
    """A column's heading, with an arrow that says whether higher or lower is better."""
    return f"{name}\N{NO-BREAK SPACE}{'↓' if key in LESS_IS_BETTER else '↑'}"


def told(row: Row) -> str:
    """The supervision of a method besides the photos, as the tables show it."""
    return row.supervision or {"baseline": "none, baseline"}.get(row.kind, "")


def cells(row: Row) -> list[str]:
    """A row's figures in the order of METRICS; a missing figure gives an empty cell."""
    return [f"{row.figures[key]:.3f}" if key in row.figures else "" for key in METRICS]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
