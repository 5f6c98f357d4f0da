"""Settings of `report`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require_suffix
from saliency_gan.config.stage import RunConfig


@dataclass(frozen=True, kw_only=True)
class ReportConfig(RunConfig):
    """Writes one self-contained HTML page about everything that a run holds.

    Args:
        output: HTML file; by default report.html in the run folder.
    """

    output: Path | None = None

    def check(self) -> None:
        if self.output is not None:
            require_suffix(self, "output", self.output, ".html", ".htm")

    def reads(self) -> list[Path]:
        return [self.run]

    def writes(self) -> list[Path]:
        return [self.output or self.run / "report.html"]
