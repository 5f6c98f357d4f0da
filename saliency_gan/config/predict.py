"""Settings of `predict`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from saliency_gan.compute.types import Device, Precision
from saliency_gan.config.checks import require, require_positive
from saliency_gan.config.stage import LendingConfig
from saliency_gan.errors import UserError
from saliency_gan.storage.run_layout import MODEL_STAGES, Input

Kind = Literal["map", "map16", "mask", "cutout", "overlay"]
Refine = Literal["none", "guided", "solver", "matting"]


@dataclass(frozen=True, kw_only=True)
class PredictConfig(LendingConfig):
    """Predicts saliency maps, masks, cut-outs and overlays of photos and videos.

    Args:
        output: Folder for the results; a folder's photos keep their relative paths. `-` is standard output, for one
            result of one photo.
        save: What to write of a photo: map (soft, 8-bit grey PNG), map16 (soft, 16-bit), mask (binary PNG), cutout (PNG
            with opacity, or on a background), overlay (JPEG). Of a video: map, mask, cutout or overlay as mp4
            with the video's times and sound.
        recursive: Search folders with their subfolders.
        skip_existing: Leave out files all of whose results exist and were made of the file as it is.
        threshold: Saliency in [0, 1] from which a pixel belongs to the mask, or otsu: Otsu's threshold of every photo.
        refine: none; guided, where edges follow the photo's by the guided filter; solver, where the whole map follows
            its colours by the fast bilateral solver; or matting by pymatting, which finds the opacity of every pixel,
            saved as the map, and colours without the ground's.
        background: Of cut-outs: transparent, white, blur (the photo's own), '#RRGGBB', or an image that is scaled to
            cover the photo.
        smooth: For videos, the share of a frame's map that comes from the frames before it, from 0 to below 1.
        weights: Saliency model (model.safetensors or its folder, or for runtime onnx a file of `export`); by default
            the run's, the last one first (adapted, student, U-Net on generated pairs), or the bundled one without a
            run; `bundled` names that one, too.
        runtime: torch, or onnx, which starts faster and needs onnxruntime and a file of `export`.
        resolution: Side in pixels of the square that a photo is squeezed into; by default the model's own.
        scales: Factors of that side; the maps of all are averaged.
        flip: Average with the map of the mirrored photo.
        precision: Of runtime torch: fp32, bf16 (automatic mixed precision; maps move by less than 0.01), or auto: bf16
            where the hardware computes in it.
        batch: Photos that a core predicts at once; photos of many megapixels are fewer.
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
    """

    output: Path = Path("predictions")
    save: tuple[Kind, ...] = ("map", "mask")
    recursive: bool = True
    skip_existing: bool = False
    threshold: float | Literal["otsu"] = 0.5
    refine: Refine = "none"
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
    def model(self) -> Input:
        """The saliency model; of runtime onnx only what is named, or the export of the bundled one."""
        return self.layout.saliency_model(self.weights, () if self.runtime == "onnx" else MODEL_STAGES)

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
        require(self, "refine", self.refine in get_args(Refine), f"one of {', '.join(get_args(Refine))}")
        require(self, "smooth", 0 <= self.smooth < 1, "at least 0 and below 1, say 0.5")
        if self.background != "transparent" and "cutout" not in self.save:
            raise UserError(f"--background is {self.background}, but only cut-outs have one: add cutout to --save.")

    def writes(self) -> list[Path]:
        return [self.output]
