"""Settings of `eigen`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from saliency_gan.config.checks import require, require_not_negative, require_positive, require_shifts
from saliency_gan.config.generator import DrawingConfig


@dataclass(frozen=True, kw_only=True)
class EigenConfig(DrawingConfig):
    """Shows what each dimension of each layer of an EigenGAN does, on one page.

    Args:
        samples: Samples in each picture, one per row.
        frames: Values of z along each row.
        reach: Largest |z| along each row.
        sigma: Standard deviation of the other latents; values below 1 give more typical images.
        measured: Samples on which the changes are measured.
    """

    DEFAULT: ClassVar[str] = "eigengan-celeba-64"

    samples: int = 4
    frames: int = 11
    reach: float = 4.5
    sigma: float = 0.5
    measured: int = 64

    def check(self) -> None:
        require_positive(self, "samples", "measured")
        require(self, "frames", self.frames >= 2, "2 or more")
        require(self, "reach", self.reach > 0, "above 0")
        require_shifts(self, "reach", self.reach)
        require_not_negative(self, "sigma")

    def writes(self) -> list[Path]:
        return [self.run / "eigen" / name for name in ("eigen.html", "eigen.json", "dimensions")]
