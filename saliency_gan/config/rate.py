"""Settings of `rate`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require, require_not_negative, require_port
from saliency_gan.config.generator import GeneratorConfig
from saliency_gan.errors import UserError
from saliency_gan.storage.run_layout import Input

KINDS = ("learned", "random", "coordinate")
"""Sources of rated directions: the run's A, a random orthonormal A, or the latent axes."""


@dataclass(frozen=True, kw_only=True)
class RateConfig(GeneratorConfig):
    """Serves a local web page where people rate learned, random and coordinate directions in a blind test.

    Args:
        learned: Number of directions of the run's A to rate, drawn at random; all if A has fewer.
        random: Number of columns of a random orthonormal A to rate; all if it has fewer. It has as many columns as the
            run's A.
        coordinate: Number of latent axes to rate, out of as many axes as A has columns; all if there are fewer.
        samples: Latents that a rater sees for each direction, one per row.
        rater: Name of the rater; without it, the page asks for the name, so several people can use the page.
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
