"""Settings of `app`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.directions import generator_files
from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.bundled import directions_folder


@dataclass(frozen=True, kw_only=True)
class AppConfig(StageConfig):
    """Serves a page on this computer alone: masks of a dropped photo, and moves along directions of a generator.

    Args:
        weights: Saliency model (model.safetensors or its folder); by default the run's, the adapted one or the student
            where there is one, or the bundled one where the run has none.
        generator: Name in the zoo, path of a generator file, or PATH.py:FUNCTION, which is run; by default the one that
            the run's directions belong to, or the bundled one where the run has no directions.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42), given once a
            layer; none takes those of discover.
        port: Port on 127.0.0.1; 0 takes any free one.
        browser: Open the page in the browser.
        max_megabytes: Larger photos are refused.
    """

    weights: Path | None = None
    generator: str | None = None
    ablate_units: tuple[str, ...] = ()
    port: int = 7860
    browser: bool = True
    max_megabytes: int = 20

    def reads(self) -> list[Path]:
        given = [self.weights] if self.weights else []
        return [*given, directions_folder(self.run, self.generator), *generator_files(self.generator or "", None)]
