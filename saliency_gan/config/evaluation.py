"""Settings of `evaluate` and `report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.config.stage import StageConfig


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StageConfig):
    """Measures a saliency model, or maps that another program made, against drawn masks.

    Args:
        images: Folder of photos.
        masks: Folder of masks, named as the photos.
        maps: Folder of finished saliency maps to measure instead of a model's.
        benchmark: Name of a standard benchmark; its layout and number of pairs are checked.
        root: Folder that the benchmark was unpacked into.
        weights: Saliency model (model.safetensors or its folder); by default the run's models, or the bundled one where
            the run has none.
        compare: Further saliency models to measure beside it, as name=path or `bundled`.
        baselines: Measure centre prior, all foreground, Otsu and contrast saliency in the same run.
        batch: Photos predicted at once.
        workers: Processes that score, for every process of a torchrun job; 0 scores in the main one; by default one a
            core from 100 photos on.
        output: JSON file for the figures, with table and pictures beside it; by default NAME.json in the run's
            evaluation folder.
    """

    images: Path | None = None
    masks: Path | None = None
    maps: Path | None = None
    benchmark: Literal["ecssd", "duts-te", "dut-omron", "hku-is", "pascal-s", "sod"] | None = None
    root: Path | None = None
    weights: Path | None = None
    compare: tuple[str, ...] = ()
    baselines: bool = True
    batch: int = 16
    workers: int | None = None
    output: Path | None = None

    def reads(self) -> list[Path]:
        compared = [Path(model.partition("=")[2]) for model in self.compare if "=" in model]
        given = (self.images, self.masks, self.maps, self.root, self.weights, *compared)
        return [path for path in given if path is not None]

    def writes(self) -> list[Path]:
        return [self.output or self.run / "evaluation"]


@dataclass(frozen=True, kw_only=True)
class ReportConfig(StageConfig):
    """Writes one self-contained HTML page about everything that a run holds.

    Args:
        output: HTML file; by default report.html in the run folder.
    """

    output: Path | None = None

    def reads(self) -> list[Path]:
        return [self.run]

    def writes(self) -> list[Path]:
        return [self.output or self.run / "report.html"]
