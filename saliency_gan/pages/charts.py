"""Training curves as small SVG charts in the colours of the surrounding page."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POINTS = 300
"""Longer curves are reduced to this many points; each point is the mean of its neighbours."""
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#a855f7", "#06b6d4")
QUANTITIES = ("loss", "score", "accuracy", "mae", "iou", "agreement")
"""Values whose names contain the same one of these words share a chart."""
NOT_SHOWN = ("per_second", "learning_rate", "step")
_INK = "#010203"  # stands for the page's text colour until the SVG is written

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Curves of one quantity over the training steps.

    Attributes:
        title: The quantity.
        legend: Name and colour of each curve.
        svg: The drawing; its only text is numbers.
    """

    title: str
    legend: tuple[tuple[str, str], ...]
    svg: str


def read_charts(path: Path) -> list[Chart]:
    """Draws everything that a metrics.jsonl holds, one chart per quantity; none if the file is missing or empty.

    Some lines cannot be read, for example because a kill interrupted the writing. They are left out, and so are values
    that are not finite numbers.
    """
    if not path.is_file():
        return []
    curves: dict[str, Curve] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            step = float(values["step"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        for name, value in values.items():
            if _is_number(value) and not name.endswith(NOT_SHOWN):
                curves.setdefault(name, []).append((step, value))
    quantities: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        quantities.setdefault(_quantity(name), {})[name] = curve
    return [draw_chart(title, some) for title, some in quantities.items()]


def draw_chart(title: str, curves: Mapping[str, Curve]) -> Chart:
    """Draws curves of (step, value) into one chart. With more curves than COLOURS, colours are used again."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=(4.0, 2.4))
        figure.patch.set_visible(False)
        axes = figure.add_axes((0.14, 0.1, 0.84, 0.86))
        axes.patch.set_visible(False)
        legend = []
        for number, (name, curve) in enumerate(curves.items()):
            colour = COLOURS[number % len(COLOURS)]
            legend.append((name.replace("_", " "), colour))
            steps, values = zip(*thin(curve), strict=True)
            axes.plot(steps, values, color=colour, linewidth=1.6, marker="o" if len(steps) == 1 else "")
        axes.grid(color=_INK, alpha=0.12)
        axes.tick_params(colors=_INK)
        axes.spines[:].set_color(_INK)
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    return Chart(title.replace("_", " "), tuple(legend), svg[svg.index("<svg") :].replace(_INK, "currentColor"))


def thin(curve: Sequence[tuple[float, float]]) -> Curve:
    """Averages neighbours so that at most POINTS (step, value) remain."""
    width = math.ceil(len(curve) / POINTS)
    if width <= 1:
        return list(curve)
    parts = [curve[start : start + width] for start in range(0, len(curve), width)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e300  # False for NaN


def _quantity(name: str) -> str:
    words = name.split("_")
    return next((quantity for quantity in QUANTITIES if quantity in words), name)
