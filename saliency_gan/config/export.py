"""Settings of `export`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require, require_seed, require_suffix
from saliency_gan.config.stage import LendingConfig
from saliency_gan.storage.exported import exported_file
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class ExportConfig(LendingConfig):
    """Writes a saliency model as an ONNX file, for programs that do not use this package.

    Args:
        weights: Saliency model: model.safetensors or its folder, or `bundled`; by default the run's adapted model, else
            its student, else its U-Net trained on generated pairs, else the bundled model.
        output: File to write, with the suffix .onnx; its model card is written beside it, with the suffix .md. By
            default it is in the run's export folder; for the bundled model it is in the cache folder, where `predict
            --runtime onnx` looks for it.
        images: Folder of photos; the export is compared with the model on them and on random images. By default
            generated images from the package.
        tolerance: Largest allowed difference in saliency between the export and the model, 0 to 1; above it no file is
            written.
        licence: Licence of the weights, for the file and its card; by default the terms of the bundled model, or "not
            stated" for others.
        seed: Random seed of the images.
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
        return self.output or self.layout.export

    def inputs(self) -> dict[str, Input]:
        return {"model": self.model}

    def reads(self) -> list[Path]:
        return [*super().reads(), *([self.images] if self.images else [])]

    def check(self) -> None:
        require_seed(self)
        require_suffix(self, "output", self.target, ".onnx")
        require(self, "tolerance", 0 < self.tolerance <= 1, "above 0 and at most 1, for example 1e-4")

    def writes(self) -> list[Path]:
        return [self.target, self.target.with_suffix(".md")]
