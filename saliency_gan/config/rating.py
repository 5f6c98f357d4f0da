"""Settings of `rate`, `mos`, `annotate` and `walk`, with which people look at directions."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.compute.types import Precision
from saliency_gan.config.classes import read_class_files
from saliency_gan.config.directions import generator_files
from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.bundled import directions_folder


@dataclass(frozen=True, kw_only=True)
class RateConfig(StageConfig):
    """Serves a page on this computer alone, on which people rate learned, random and coordinate directions blind.

    Args:
        generator: Name in the zoo, path of a generator file, or PATH.py:FUNCTION, which is run; by default the one that
            the run's directions belong to.
        weights: Folder or file with the generator's weights where they are not bundled; by default those of discover.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42), given once a
            layer; none takes those of discover.
        learned: Directions of the run's A to rate, drawn at random; all where A has fewer.
        random: Columns to rate of a random orthonormal A with as many columns; all where it has fewer.
        coordinate: Latent axes to rate of as many as A has columns; all where there are fewer.
        samples: Latents a rater sees of every direction, one a row.
        rater: Name of the rater; without it, the page asks, which it may do for several people.
        port: Port on 127.0.0.1; 0 takes any free one.
        browser: Open the page in the browser.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
    """

    generator: str | None = None
    weights: Path | None = None
    ablate_units: tuple[str, ...] = ()
    learned: int = 40
    random: int = 20
    coordinate: int = 20
    samples: int = 10
    rater: str | None = None
    port: int = 8765
    browser: bool = True
    precision: Precision = "auto"

    def reads(self) -> list[Path]:
        return [directions_folder(self.run, self.generator), *generator_files(self.generator or "", self.weights)]

    def writes(self) -> list[Path]:
        names = ("directions.json", "gallery/index.html")
        return [self.run / "rating", *(self.run / "discover" / name for name in names)]


@dataclass(frozen=True, kw_only=True)
class MosConfig(StageConfig):
    """Counts what people answered on the page of `rate`: MOS, its intervals and how far the raters agree.

    Args:
        confidence: Share of the bootstrap distribution that an interval covers, above 0 and below 1.
        resamples: Bootstrap resamples of the directions.
    """

    confidence: float = 0.95
    resamples: int = 10_000

    def reads(self) -> list[Path]:
        return [self.run / "rating"]

    def writes(self) -> list[Path]:
        return [self.run / "rating" / "mos.json"]


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig(StageConfig):
    """Names a direction of a run, or takes its name back; without a direction it lists the names.

    Args:
        direction: Index or present name of the direction.
        name: Its new name.
        remove: Take the direction's name back.
    """

    direction: int | str | None = None
    name: str | None = None
    remove: bool = False

    def reads(self) -> list[Path]:
        return [self.run / "discover" / "directions.json"]

    def writes(self) -> list[Path]:
        if self.direction is None:
            return []
        return [self.run / "discover" / name for name in ("directions.json", "gallery/index.html")]


@dataclass(frozen=True, kw_only=True)
class WalkConfig(StageConfig):
    """Renders a walk along a direction: G(z + s h, c), s from start to end, of several z and c at once.

    Args:
        direction: Index or name of the direction; by default the background direction h_bg.
        output: Where to write; the suffix chooses an animation (.gif, .mp4) or a strip with a row a latent (.png).
        generator: Name in the zoo, path of a generator file, or PATH.py:FUNCTION, which is run; by default the one that
            the run's directions belong to.
        weights: Folder or file with the generator's weights where they are not bundled; by default those of discover.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42), given once a
            layer; none takes those of discover.
        classes: Class names, indices and ranges (10-20) to draw from, or @FILE with one per line; by default all
            classes.
        samples: Latents to show.
        start: First shift, in units of a unit-length direction.
        end: Last shift.
        frames: Shifts from start to end; by default 33 for an animation, 9 for a strip.
        fps: Frames a second of an animation, 1 to 50.
        back: Let an animation go back to the start, so that it repeats without a jump.
        scale: Size of a shown image as a multiple of the generated one.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
    """

    direction: int | str | None = None
    output: Path = Path("walk.gif")
    generator: str | None = None
    weights: Path | None = None
    ablate_units: tuple[str, ...] = ()
    classes: tuple[str | int, ...] | None = None
    samples: int = 6
    start: float = -8.0
    end: float = 8.0
    frames: int | None = None
    fps: int = 16
    back: bool = True
    scale: float = 2.0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", read_class_files(self.classes))

    def reads(self) -> list[Path]:
        return [directions_folder(self.run, self.generator), *generator_files(self.generator or "", self.weights)]

    def writes(self) -> list[Path]:
        return [self.output]
