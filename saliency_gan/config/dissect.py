"""Settings of `dissect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.config.checks import require, require_not_negative, require_positive
from saliency_gan.config.generator import DrawingConfig
from saliency_gan.errors import UserError
from saliency_gan.storage.run_layout import Input


@dataclass(frozen=True, kw_only=True)
class DissectConfig(DrawingConfig):
    """Finds which units of a generator paint what, and what happens to a concept when they are switched off and on.

    Args:
        layers: Layers to dissect, such as block0; by default all.
        images: Images that thresholds are chosen on, and as many others that the IoU is measured on.
        min_iou: A unit with at most this IoU has no concept; the paper's is 0.05.
        concepts: Where concepts come from: saliency, appearance, torchvision:MODEL, or PATH.py:FUNCTION, your own code,
            which is run.
        saliency_weights: Saliency model that says where objects are (model.safetensors or its folder); by default the
            run's, else the bundled one, which `bundled` names, too.
        concept_weights: Weights of the segmentation model among them.
        concept_names: Names of its classes, a text file with one per line; by default those the model knows.
        concept: What units are switched off and on for: salient object, background, or another one of the page.
        layer: Layer whose units are switched; by default the one whose units agree with the concept best.
        units: Number of units switched together.
        region: Where they are switched: centre, the inner half of the width and of the height, or everywhere.
        effect_images: Images on which the average causal effect is measured; 0 leaves it out.
        mask_concept: What masks --rule units shall show: salient object, or another concept of the page.
        mask_units: Units of all layers that vote on those masks, the ones that agree best.
        alpha_steps: Steps of the optimisation of alpha, for what a network says is there: salient object, background
            and the classes of a segmentation model; 0 leaves it out.
        artifact_images: Images that artifact units are ranked on, and twice as many others on which their ablation is
            measured; 0 leaves it out.
        real: Folder of photos, a thousand or more, to compare images with; without it, only the discriminator judges.
        fid_weights: Inception weights for torch-fidelity, to measure FID as well; without them, it is left out.
        top_units: Units per layer that the page shows with their strongest images.
    """

    layers: tuple[str, ...] | None = None
    images: int = 512
    min_iou: float = 0.05
    concepts: tuple[str, ...] = ("saliency", "appearance")
    saliency_weights: Path | None = None
    concept_weights: Path | None = None
    concept_names: Path | None = None
    concept: str = "salient object"
    layer: str | None = None
    units: int = 20
    region: Literal["centre", "everywhere"] = "centre"
    effect_images: int = 256
    alpha_steps: int = 60
    mask_concept: str = "salient object"
    mask_units: int = 50
    artifact_images: int = 128
    real: Path | None = None
    fid_weights: Path | None = None
    top_units: int = 12

    def inputs(self) -> dict[str, Input]:
        return {**super().inputs(), "saliency model": self.layout.saliency_model(self.saliency_weights)}

    def reads(self) -> list[Path]:
        given = (self.concept_weights, self.concept_names, self.real, self.fid_weights)
        return [*super().reads(), *filter(None, given)]

    def check(self) -> None:
        require(self, "images", self.images >= 2, "2 or more")
        require_positive(self, "units")
        require(self, "min_iou", 0 <= self.min_iou < 1, "from 0 to below 1")
        require_not_negative(self, "effect_images", "mask_units", "alpha_steps", "top_units")
        few = 0 < self.artifact_images < 8
        require(self, "artifact_images", not few and self.artifact_images >= 0, "8 or more, or 0 for no artifact units")
        if self.fid_weights and (self.real is None or not self.fid_weights.is_file()):
            raise UserError("FID needs --fid_weights FILE, Inception's, and --real FOLDER, the photos to compare with.")

    def writes(self) -> list[Path]:
        return [
            self.run / "dissect" / name
            for name in ("dissect.html", "dissection.json", "units", "interventions.png", "artifacts.png")
        ]
