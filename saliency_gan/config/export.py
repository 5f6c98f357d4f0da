"""Settings of `export`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require, require_suffix
from saliency_gan.config.stage import LendingConfig
from saliency_gan.storage.exported import exported_file
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class ExportConfig(LendingConfig):
    """Writes a saliency model as ONNX, for programs that do without this package.

    Args:
        weights: Saliency model (model.safetensors or its folder); by default the run's, the last one first (adapted,
            student, U-Net on generated pairs), or the bundled one without a run; `bundled` names that one, too.
        output: File to write, ending in .onnx; its model card lies beside it, ending in .md. By default in the
            run's export folder; for the bundled model in the cache folder, where `predict --runtime onnx` looks.
        images: Folder of photos on which the export is compared with the model, beside random images; by default
            generated pictures of the package.
        tolerance: Largest difference of saliency, from 0 to 1, at which the file is still written.
        licence: Licence of the weights, for the file and its card; by default MIT for the bundled model, and of others
            that none was stated.
        seed: Seed of the random images.
    """

    weights: Path | None = None
    output: Path | None = None
    images: Path | None = None
    tolerance: float = 1e-4
    licence: str | None = None

    seed: int = 0

    @property
    def model(self) -> Input:
        """The saliency model."""
        return self.layout.saliency_model(self.weights)

    @property
    def target(self) -> Path:
        """The file to write."""
        if self.model.origin == "bundled":
            return self.output or exported_file()
        return self.output or (self.run or Path("runs")) / "export" / "saliency.onnx"

    def inputs(self) -> dict[str, Input]:
        return {"model": self.model}

    def reads(self) -> list[Path]:
        return [*super().reads(), *([self.images] if self.images else [])]

    def check(self) -> None:
        require_suffix(self, "output", self.target, ".onnx")
        require(self, "tolerance", 0 < self.tolerance <= 1, "above 0 and at most 1, for example 1e-4")

    def writes(self) -> list[Path]:
        return [self.target, self.target.with_suffix(".md")]
