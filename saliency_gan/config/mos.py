"""Settings of `mos`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require, require_positive
from saliency_gan.config.stage import SeededConfig


@dataclass(frozen=True, kw_only=True)
class MosConfig(SeededConfig):
    """Evaluates the answers from the page of `rate`: MOS, its confidence intervals and the agreement of the raters.

    Args:
        confidence: Share of the bootstrap distribution that an interval covers, above 0 and below 1.
        resamples: Bootstrap resamples of the directions.
    """

    confidence: float = 0.95
    resamples: int = 10_000

    def check(self) -> None:
        require(self, "confidence", 0 < self.confidence < 1, "between 0 and 1")
        require_positive(self, "resamples")

    def reads(self) -> list[Path]:
        return [self.run / "rating"]

    def writes(self) -> list[Path]:
        return [self.run / "rating" / "mos.json"]
