"""Settings of `rate`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require, require_not_negative, require_port
from saliency_gan.config.generator import GeneratorConfig
from saliency_gan.errors import UserError
from saliency_gan.storage.run_layout import Input

KINDS = ("learned", "random", "coordinate")
"""Where a rated direction is from: the run's A, a random orthonormal A, or the latent axes."""


@dataclass(frozen=True, kw_only=True)
class RateConfig(GeneratorConfig):
    """Serves a page on this computer alone, on which people rate learned, random and coordinate directions blind.

    Args:
        learned: Directions of the run's A to rate, drawn at random; all where A has fewer.
        random: Columns to rate of a random orthonormal A with as many columns; all where it has fewer.
        coordinate: Latent axes to rate of as many as A has columns; all where there are fewer.
        samples: Latents a rater sees of every direction, one a row.
        rater: Name of the rater; without it, the page asks, which it may do for several people.
        port: Port on 127.0.0.1; 0 takes any free one.
        browser: Open the page in the browser.
    """

    learned: int = 40
    random: int = 20
    coordinate: int = 20
    samples: int = 10
    rater: str | None = None
    port: int = 8765
    browser: bool = True

    def inputs(self) -> dict[str, Input]:
        return {**super().inputs(), "directions": self.found_directions}

    def check(self) -> None:
        require_not_negative(self, *KINDS)
        if not any(getattr(self, kind) for kind in KINDS):
            raise UserError("--learned, --random and --coordinate are all 0: give at least one direction to rate.")
        require(self, "samples", 1 <= self.samples <= 50, "from 1 to 50 latents per direction")
        require_port(self)

    def writes(self) -> list[Path]:
        names = ("directions.json", "gallery/index.html")
        return [self.run / "rating", *(self.run / "discover" / name for name in names)]
