"""Settings of `eigen`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.compute.types import Precision
from saliency_gan.config.classes import read_class_files
from saliency_gan.config.directions import generator_files
from saliency_gan.config.stage import StageConfig


@dataclass(frozen=True, kw_only=True)
class EigenConfig(StageConfig):
    """Shows what each dimension of each layer of an EigenGAN does, on one page.

    Args:
        generator: Name in the zoo, or path of a generator file that train-gan wrote.
        weights: Folder or file with the generator's weights where they are not bundled.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42); given once a
            layer.
        classes: Class names, indices and ranges (10-20) to draw from, or @FILE with one per line; by default all
            classes.
        samples: Samples a picture shows, a row each.
        frames: Values of z along a row.
        reach: Largest |z| along a row.
        sigma: Standard deviation of the other latents; below 1 for more typical images.
        measured: Samples that the changes are measured on.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
    """

    generator: str = "eigengan-celeba-64"
    weights: Path | None = None
    ablate_units: tuple[str, ...] = ()
    classes: tuple[str | int, ...] | None = None
    samples: int = 4
    frames: int = 11
    reach: float = 4.5
    sigma: float = 0.5
    measured: int = 64
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", read_class_files(self.classes))

    def reads(self) -> list[Path]:
        return generator_files(self.generator, self.weights)

    def writes(self) -> list[Path]:
        return [self.run / "eigen" / name for name in ("eigen.html", "eigen.json", "dimensions")]
