"""Published ablations of stage 1, to compare the results of a sweep with.

`ablations.csv` has one line for each generator, K and lambda; each was trained for 100,000 steps with a learned matrix
A. A field is empty if we did not find its value. We also found no values for a fixed A, random or coordinate, and none
for the network.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.deformator import FIXED_KINDS


@dataclass(frozen=True)
class PublishedAblation:
    """One published row.

    Attributes:
        rca: Reconstructor classification accuracy in [0, 1].
        mos: Share of directions that people find interpretable, in [0, 1]; None if unknown.
        mos_absolute: Number of these directions; None if unknown.
        source: The paper and its table.
    """

    rca: float
    mos: float | None
    mos_absolute: int | None
    source: str


def published_ablation(config: DiscoverConfig) -> PublishedAblation | None:
    """The published row for generator, K and lambda of `config`; None if A is no learned matrix or without a row."""
    if config.deformator in (*FIXED_KINDS, "mlp"):
        return None
    table = (files("saliency_gan.directions") / "ablations.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(table.splitlines()):
        settings = (line["generator"], int(line["K"]), float(line["regression_weight"]))
        if settings == (config.generator, config.K, config.regression_weight):
            return PublishedAblation(
                float(line["rca"]),
                float(line["mos"]) if line["mos"] else None,
                int(line["mos_absolute"]) if line["mos_absolute"] else None,
                line["source"],
            )
    return None
