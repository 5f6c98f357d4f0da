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
    """Finds what each unit of a generator paints, and how a concept changes when units are switched off and on.

    Args:
        layers: Layers to dissect, such as block0; by default all.
        images: Images on which the thresholds are chosen; the IoU is measured on the same number of other images.
        min_iou: A unit with this IoU or less has no concept; the paper uses 0.05.
        concepts: Sources of concepts: saliency, appearance, torchvision:MODEL, or PATH.py:FUNCTION (this runs your
            code).
        saliency_weights: Saliency model that finds the objects: model.safetensors or its folder, or `bundled`; by
            default the run's model, else the bundled one.
        concept_weights: Weights of the segmentation model in --concepts.
        concept_names: Text file with the class names of that model, one per line; by default the names that the model
            has.
        concept: Concept whose units are switched off and on: salient object, background, or another concept of the
            page.
        layer: Layer whose units are switched; by default the layer whose units agree best with the concept.
        units: Number of units switched together.
        region: Where the units of an image are switched: masks (the mask of --concept in another image, drawn at
            random), centre (the inner half of the width and of the height) or everywhere.
        effect_images: Images on which the average causal effect is measured; 0 skips it.
        mask_concept: Concept that `masks --rule units` turns into masks: salient object, or another concept of the
            page.
        mask_units: Number of units that vote on those masks: the best ones of all layers together.
        alpha_steps: Steps of the optimisation of alpha, for concepts that a network predicts (salient object,
            background and the classes of a segmentation model); 0 skips it.
        artifact_images: Images on which artifact units are ranked; their ablation is measured on twice as many other
            images. 0 skips both.
        real: Folder of photos, a thousand or more, that generated images are compared with; without it, only the
            discriminator measures realism.
        fid_weights: Inception weights for torch-fidelity; with them, the FID is measured, too.
        top_units: Units per layer that the page shows, each with the images that activate it most.
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
    region: Literal["masks", "centre", "everywhere"] = "masks"
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
        if self.real and not self.artifact_images:
            raise UserError("--real measures what artifact units do: give --artifact_images, or leave it out.")
        if self.fid_weights and (self.real is None or not self.fid_weights.is_file()):
            raise UserError("FID needs --fid_weights FILE, Inception's, and --real FOLDER, the photos to compare with.")

    def writes(self) -> list[Path]:
        return [
            self.run / "dissect" / name
            for name in ("dissect.html", "dissection.json", "units", "interventions.png", "artifacts.png")
        ]
