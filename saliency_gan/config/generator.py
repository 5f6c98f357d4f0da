"""Settings of all verbs that draw images from a frozen generator."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from saliency_gan.compute.types import Precision
from saliency_gan.config.classes import read_class_files
from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.run_layout import GeneratorChoice, Input


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(StageConfig):
    """The generator that draws the images, and its options.

    Args:
        generator: Name that the verb `generators` lists (`biggan-caltech101-64`, `biggan-deep-128`, ...), path of a
            generator file, or PATH.py:FUNCTION for your own code: the file is run, and FUNCTION returns the generator.
            By default the generator of the run's directions, else the one that the run trained, else a bundled one.
        weights: Folder or file with the generator's weights, if they are not bundled; by default those of the run, else
            those in the cache.
        truncation: Scale of the latents, above 0 and at most 1, for families that support it (BigGAN-deep); by default
            the run's, else 1.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (for example block1:3,17,42),
            once for each layer; by default those of the run, else none.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 if the hardware supports it, else fp32.
    """

    DEFAULT: ClassVar[str] = "biggan-caltech101-64"
    """Generator to use if the run has none."""

    generator: str | None = None
    weights: Path | None = None
    truncation: float | None = None
    ablate_units: tuple[str, ...] = ()
    precision: Precision = "auto"

    @property
    def named_directions(self) -> Path | None:
        """The directions that the user named, if the verb reads any; they tell the generator that they belong to."""
        return None

    @property
    def choice(self) -> GeneratorChoice:
        """The generator that follows from these settings and the run."""
        given = (self.generator, self.weights, self.truncation, self.ablate_units)
        return self.layout.generator(*given, bundled=self.DEFAULT, directions=self.named_directions)

    @property
    def found_directions(self) -> Input:
        """The directions of this generator: those of the run, else the bundled ones."""
        return self.layout.directions(None, self.choice.name)

    def resolved(self) -> Self:
        """The same settings with all generator options filled in, as a run records them."""
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
    """The generator that draws the images, and the classes that it draws.

    Args:
        classes: Class names, indices and ranges (10-20) to draw from, or @FILE with one per line; by default all
            classes.
    """

    classes: tuple[str | int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "classes", read_class_files(self.classes))
