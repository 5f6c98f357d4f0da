"""Published figures of other methods on the standard benchmarks, for comparison with a run's own figures.

`published.csv` has one line per method and benchmark. The figures come from tables in papers, where a later paper has
often measured an older method. `source` names the paper that introduced the method. All figures are computed as in
`metrics`: means over the images, max F (beta^2 = 0.3) of the mean curve, IoU and accuracy at threshold 0.5. The max F
that SelfMask and FOUND publish themselves is another quantity (beta^2 squared, the best threshold of every image), so
it is left out. A field is empty if we did not find the figure.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

FIGURES = ("max_f", "iou", "accuracy", "mae")
"""Columns with figures; they are keys of `metrics.METRICS`."""


@dataclass(frozen=True)
class PublishedRow:
    """One method on one benchmark.

    Attributes:
        method: Name of the method.
        supervision: The supervision that it used besides the photos.
        source: The paper that introduced it.
        figures: Key of FIGURES -> value in [0, 1], only for the figures that we found.
    """

    method: str
    supervision: str
    source: str
    figures: dict[str, float]


def published_rows(benchmark: str | None) -> list[PublishedRow]:
    """Rows of a benchmark, in the table's order; none for the user's own photos.

    Args:
        benchmark: Key of `benchmarks.BENCHMARKS`, or None.
    """
    table = (files("saliency_gan.evaluation") / "published.csv").read_text(encoding="utf-8")
    return [
        PublishedRow(
            line["method"],
            line["supervision"],
            line["source"],
            {key: float(line[key]) for key in FIGURES if line[key]},
        )
        for line in csv.DictReader(table.splitlines())
        if line["benchmark"] == benchmark
    ]
