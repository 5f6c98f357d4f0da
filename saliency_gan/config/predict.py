"""Settings of `predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from saliency_gan.compute.types import Device, Precision
from saliency_gan.config.checks import LARGEST_RESOLUTION, require, require_positive
from saliency_gan.config.stage import LendingConfig
from saliency_gan.errors import UserError
from saliency_gan.storage.run_layout import Input

Kind = Literal["map", "map16", "mask", "cutout", "overlay"]
EdgeRefinement = Literal["none", "guided", "solver", "matting"]


@dataclass(frozen=True, kw_only=True)
class PredictConfig(LendingConfig):
    """Predicts saliency maps, masks, cut-outs and overlays of photos and videos.

    Args:
        output: Folder for the results; by default predictions, in the run folder if one is given. Photos in a folder
            keep their relative paths. `-` writes one result of one photo to standard output.
        save: What to write for each photo: map (soft, 8-bit grey PNG), map16 (soft, 16-bit), mask (binary PNG), cutout
            (PNG with opacity, or on a background), overlay (JPEG). For each video: map, mask, cutout or overlay as mp4
            with the video's frame times and sound.
        recursive: Search folders and their subfolders.
        skip_existing: Skip a file if all its results exist, made from the same version of the file by the same model
            with the same settings.
        threshold: Pixels with at least this saliency, in [0, 1], belong to the mask; otsu finds Otsu's threshold for
            each photo. With matting, the opacity is estimated around this outline, and the mask holds the pixels with
            an opacity of 0.5 or more.
        refine: How maps are refined: none; guided (the guided filter aligns edges with the photo's edges); solver (the
            fast bilateral solver fits the whole map to the photo's colours); or matting (pymatting estimates the
            opacity of every pixel near the outline, which is saved as the map, and colours without the background).
        background: Background of cut-outs: transparent, white, blur (the photo without its object, blurred),
            '#RRGGBB', or the path of an image, which is scaled to cover the photo.
        smooth: For videos, the weight of the earlier frames in the moving average of the maps, from 0 to below 1.
        weights: Saliency model: model.safetensors or its folder, or `bundled`; for runtime onnx a file of `export`. By
            default the run's adapted model, else its student, else its U-Net trained on generated pairs, else the
            bundled model; for runtime onnx the export of this model.
        runtime: torch, or onnx, which starts faster and needs onnxruntime and a file of `export`.
        resolution: Side in pixels of the square to which photos are resized, 32 or more; rounded to a multiple of 32;
            by default the model's own.
        scales: Factors of the resolution; the maps of all scales are averaged.
        flip: Average the map with the map of the mirrored photo.
        precision: For runtime torch: fp32, bf16 (automatic mixed precision; maps change by less than 0.01 on average,
            and by up to 0.1 at single pixels), or auto: bf16 if the hardware supports it, else fp32.
        batch: Photos that each core predicts at once; fewer if the photos have many megapixels.
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
    """

    output: Path | None = None
    save: tuple[Kind, ...] = ("map", "mask")
    recursive: bool = True
    skip_existing: bool = False
    threshold: float | Literal["otsu"] = 0.5
    refine: EdgeRefinement = "none"
    background: str = "transparent"
    smooth: float = 0.5
    weights: Path | None = None
    runtime: Literal["torch", "onnx"] = "torch"
    resolution: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    precision: Precision = "auto"
    batch: int = 8
    device: Device = "auto"

    @property
    def folder(self) -> Path:
        """Folder for the results."""
        return self.output or (self.run or Path()) / "predictions"

    @property
    def model(self) -> Input:
        """The saliency model; for runtime onnx its export."""
        if self.runtime == "onnx":
            return self.layout.exported_model(self.weights)
        return self.layout.saliency_model(self.weights)

    def inputs(self) -> dict[str, Input]:
        return {"model": self.model}

    def reads(self) -> list[Path]:
        named = self.background in ("transparent", "white", "blur") or self.background.startswith("#")
        return [*super().reads(), *([] if named else [Path(self.background)])]

    def check(self) -> None:
        require_positive(self, "batch")
        valid = self.threshold == "otsu" if isinstance(self.threshold, str) else 0 <= self.threshold <= 1
        require(self, "threshold", valid, "a number from 0 to 1, say 0.5, or otsu")
        known = bool(self.save) and set(self.save) <= set(get_args(Kind))
        require(self, "save", known, f"some of {', '.join(get_args(Kind))}")
        require(
            self, "refine", self.refine in get_args(EdgeRefinement), f"one of {', '.join(get_args(EdgeRefinement))}"
        )
        fits = self.resolution is None or 32 <= self.resolution <= LARGEST_RESOLUTION
        require(self, "resolution", fits, f"from 32 to {LARGEST_RESOLUTION}")
        require(self, "scales", min(self.scales, default=0) > 0, "factors above 0, for example 1.0,1.5")
        require(self, "smooth", 0 <= self.smooth < 1, "at least 0 and below 1, say 0.5")
        if self.background != "transparent" and "cutout" not in self.save:
            raise UserError(f"--background is {self.background}, but only cut-outs have one: add cutout to --save.")

    def writes(self) -> list[Path]:
        return [self.folder]
