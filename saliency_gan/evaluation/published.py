"""Published figures of other methods on the standard benchmarks, to read a run's own figures against.

`published.csv` has one line a method and benchmark. They were collected from the tables of the field, where older
methods are often measured by a later paper; `source` names the paper that introduced the method. All are counted as
`metrics` counts: means over the images, max F (beta^2 = 0.3) of the mean curve, IoU and accuracy at threshold 0.5. The
max F that SelfMask and FOUND print themselves is another quantity (beta^2 squared, the best threshold of every image)
and is left out; an empty field was not found.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

FIGURES = ("max_f", "iou", "accuracy", "mae")
"""Columns of figures, keys of `metrics.METRICS`."""


@dataclass(frozen=True)
class PublishedRow:
    """One method on one benchmark.

    Attributes:
        method: Its name.
        supervision: What it was told besides the photos.
        source: The paper that introduced it.
        figures: Values in [0, 1] under keys of FIGURES; only those that were found.
    """

    method: str
    supervision: str
    source: str
    figures: dict[str, float]


def published_rows(benchmark: str | None) -> list[PublishedRow]:
    """Rows that apply to a benchmark, least supervision first; none for a person's own photos.

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
