"""Settings of every verb that draws images from a frozen generator."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from saliency_gan.compute.types import Precision
from saliency_gan.config.classes import read_class_files
from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.run_layout import GeneratorChoice, Input


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(StageConfig):
    """Which generator draws, and how.

    Args:
        generator: Name in the zoo (`biggan-caltech101-64`, `biggan-deep-128`, ...), path of a generator file, or
            PATH.py:FUNCTION, your own code: the file is run, and FUNCTION returns the generator. By default the one
            that the run's directions belong to, else the one that the run trained, else a bundled one.
        weights: Folder or file with the generator's weights where they are not bundled; by default the run's, else the
            cache.
        truncation: Scale of the latents where the family supports it (BigGAN-deep), above 0, at most 1; by default the
            run's, else 1.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42), given once for
            each layer; by default the run's, else none.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
    """

    DEFAULT: ClassVar[str] = "biggan-caltech101-64"
    """The generator of a run that has none."""

    generator: str | None = None
    weights: Path | None = None
    truncation: float | None = None
    ablate_units: tuple[str, ...] = ()
    precision: Precision = "auto"

    @property
    def choice(self) -> GeneratorChoice:
        """The generator that these settings and the run come to."""
        given = (self.generator, self.weights, self.truncation, self.ablate_units)
        return self.layout.generator(*given, bundled=self.DEFAULT)

    @property
    def found_directions(self) -> Input:
        """Where the directions of this generator are: the run's, else those bundled with it."""
        return self.layout.directions(None, self.choice.name)

    def resolved(self) -> Self:
        """The same settings with the generator said in full, as a run records them."""
        choice = self.choice
        return replace(
            self,
            generator=choice.name,
            weights=choice.weights,
            truncation=choice.truncation,
            ablate_units=choice.ablate_units,
        )

    def inputs(self) -> dict[str, Input]:
        return self.choice.inputs


@dataclass(frozen=True, kw_only=True)
class DrawingConfig(GeneratorConfig):
    """Which generator draws, and of which classes.

    Args:
        classes: Class names, indices and ranges (10-20) to draw from, or @FILE with one per line; by default all
            classes.
    """

    classes: tuple[str | int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", read_class_files(self.classes))
