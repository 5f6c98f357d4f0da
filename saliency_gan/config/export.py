"""Settings of `export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.exported import exported_file

ExportFormat = Literal["onnx", "torchscript"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "torchscript": ".pt"}


@dataclass(frozen=True, kw_only=True)
class ExportConfig(StageConfig):
    """Writes a saliency model as ONNX or TorchScript, for programs that do without this package.

    Args:
        weights: Saliency model (model.safetensors or its folder); by default, or with `bundled`, the bundled one.
        format: onnx, or torchscript.
        output: File to write, ending in .onnx or .pt; its model card lies beside it, ending in .md. By default the
            run's export folder; for the bundled model the cache folder, where `predict --runtime onnx` looks.
        images: Folder of photos on which the export is compared with the model, beside random images; by default
            generated pictures of the package.
        tolerance: Largest difference of saliency, from 0 to 1, at which the file is still written.
        licence: Licence of the weights, for the file and its card; by default MIT for the bundled model, and of others
            that none was stated.
    """

    weights: Path | None = None
    format: ExportFormat = "onnx"
    output: Path | None = None
    images: Path | None = None
    tolerance: float = 1e-4
    licence: str | None = None

    @property
    def model(self) -> Path | None:
        """The saliency model; None for the bundled one."""
        return None if self.weights == Path("bundled") else self.weights

    @property
    def target(self) -> Path:
        """The file to write."""
        suffix = SUFFIXES[self.format]
        return self.output or (self.run / "export" / f"saliency{suffix}" if self.model else exported_file(suffix))

    def reads(self) -> list[Path]:
        return [path for path in (self.model, self.images) if path]

    def writes(self) -> list[Path]:
        return [self.target, self.target.with_suffix(".md")]
