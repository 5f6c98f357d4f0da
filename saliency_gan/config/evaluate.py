"""Settings of `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.compute.types import Device
from saliency_gan.config.checks import require, require_not_negative, require_positive, require_seed, require_suffix
from saliency_gan.config.stage import LendingConfig
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(LendingConfig):
    """Measures a saliency model, or the maps of another program, against ground-truth masks.

    Args:
        images: Folder of photos.
        masks: Folder of ground-truth masks with the same names as the photos.
        maps: Folder of finished saliency maps, which are measured instead of a model.
        benchmark: Name of a standard benchmark; its layout and number of pairs are checked.
        root: Folder with the unpacked benchmark.
        weights: Saliency model: model.safetensors or its folder, or `bundled`; by default all models of the run, or the
            bundled one if there is no run or the run has no model.
        compare: More saliency models to measure, as name=path or `bundled`.
        baselines: Also measure the baselines: centre prior, all foreground, Otsu and contrast saliency.
        batch: Photos predicted at once.
        workers: Processes that compute the scores, for each process of a torchrun job; 0 uses the main process; by
            default one per core if there are 100 photos or more.
        output: JSON file for the results; the table and the pictures are written beside it; by default NAME.json in the
            run's evaluation folder, or in runs/evaluation without a run.
        seed: Random seed for the photos in the picture of random examples.
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
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
    seed: int = 0
    device: Device = "auto"

    @property
    def folder(self) -> Path:
        """Default folder of the results."""
        return (self.run or Path("runs")) / "evaluation"

    @property
    def models(self) -> dict[str, Input]:
        """Title in tables -> saliency model, without those of --compare; the first one is the main model."""
        if self.maps is not None:
            return {}
        if self.weights is not None:
            return {"model": self.layout.saliency_model(self.weights)}
        titles = {"saliency-adapted": "adapted", "student": "student", "saliency": "GAN pairs alone"}
        own = {title: found for stage, title in titles.items() for found in self.layout.saliency_models([stage])}
        return own or {"bundled": self.layout.saliency_model(None)}

    def inputs(self) -> dict[str, Input]:
        return {f"model ({title})": found for title, found in self.models.items()}

    def check(self) -> None:
        require_positive(self, "batch")
        require_not_negative(self, "workers")
        require_seed(self)
        one_of_them = self.maps is None or self.weights is None
        require(self, "weights", one_of_them, "left out with --maps; --compare measures models beside the maps")
        if self.output is not None:
            require_suffix(self, "output", self.output, ".json")

    def reads(self) -> list[Path]:
        compared = [Path(model.partition("=")[2]) for model in self.compare if "=" in model]
        given = (self.images, self.masks, self.maps, self.root)
        return [*(path for path in given if path is not None), *super().reads(), *compared]

    def writes(self) -> list[Path]:
        return [self.output or self.folder]
