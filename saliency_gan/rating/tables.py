"""Tables of the counted opinions for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

COUNTING = (
    "A direction's score is the share of raters that said yes to both questions. MOS is the mean over the rated"
    " directions; absolute MOS is MOS x the number of directions there are. Intervals: bootstrap over directions."
)


def kind_table(result: dict[str, Any]) -> Table:
    """MOS of every kind of direction and the raters' agreement, one column per kind."""
    kinds, agreement = result["kinds"].values(), result["agreement"]
    interval = f"{100 * result['confidence']:g} % interval"
    table = _table("MOS", ("", *result["kinds"], "all"), COUNTING)
    table.add_row("rated", *(f"{kind['rated']} of {kind['columns']}" for kind in kinds))
    table.add_row("consistent", *(_share(kind["consistent"]) for kind in kinds))
    table.add_row("one factor", *(_share(kind["one_factor"]) for kind in kinds), end_section=True)
    table.add_row("MOS", *(_share(kind["mos"]) for kind in kinds), style="bold")
    table.add_row(interval, *(_interval(kind["mos_interval"], ".2f") for kind in kinds))
    table.add_row("absolute MOS", *(f"{kind['absolute']:.1f}" for kind in kinds), style="bold")
    table.add_row(interval, *(_interval(kind["absolute_interval"], ".1f") for kind in kinds))
    table.add_row("yes by majority", *(f"{kind['majority']} of {kind['rated']}" for kind in kinds), end_section=True)
    table.add_row("rated by two or more", *(str(group["shared"]) for group in (*kinds, agreement)))
    table.add_row("agreement", *(_share(group["percent_agreement"]) for group in (*kinds, agreement)))
    table.add_row("Fleiss' kappa", *(_share(group["kappa"]) for group in (*kinds, agreement)))
    return table


def rater_table(result: dict[str, Any]) -> Table:
    """For every rater, the number of rated directions, and when and how fast they were rated."""
    table = _table("Raters", ("", "directions", "first answer", "last answer", "median pause"))
    for rater in result["raters"]:
        pause = "" if rater["median_seconds"] is None else f"{rater['median_seconds']:g} s"
        minutes = [rater[end][:16].replace("T", " ") for end in ("first", "last")]
        table.add_row(Text(rater["name"]), str(rater["directions"]), *minutes, pause)
    return table


def direction_table(result: dict[str, Any]) -> Table:
    """The score of every rated direction, sorted by kind and then from the best to the worst."""
    table = _table("Directions", ("", "raters", "consistent", "one factor", "score", "called"))
    for one in result["directions"]:
        called = ", ".join(dict.fromkeys([*([one["name"]] if one["name"] else []), *one["called"]]))
        figures = (_share(one[name]) for name in ("consistent", "one_factor", "mos"))
        table.add_row(f"{one['kind']} {one['index']}", str(one["raters"]), *figures, Text(called))
    return table


def _table(title: str, head: Sequence[str], caption: str | None = None) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in head:
        table.add_column(Text(name), justify="left" if name in ("", "called") else "right")
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _interval(ends: Sequence[float] | None, form: str) -> str:
    return "" if ends is None else f"{ends[0]:{form}} to {ends[1]:{form}}"
