"""Settings of `dissect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.compute.types import Precision
from saliency_gan.config.classes import read_class_files
from saliency_gan.config.directions import generator_files
from saliency_gan.config.stage import StageConfig


@dataclass(frozen=True, kw_only=True)
class DissectConfig(StageConfig):
    """Finds which units of a generator paint what, and what happens to a concept when they are switched off and on.

    Args:
        generator: Name in the zoo, path of a generator file, or PATH.py:FUNCTION, your own code, which is run.
        weights: Folder or file with the generator's weights where they are not bundled; by default the cache.
        truncation: Scale of the latents where the family supports it (BigGAN-deep), 0 to 1.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42); given once a
            layer.
        classes: Class names, indices and ranges (10-20) to draw from, or @FILE with one per line; by default all
            classes.
        layers: Layers to dissect, such as block0; by default all.
        images: Images that thresholds are chosen on, and as many others that the IoU is measured on.
        min_iou: A unit with at most this IoU has no concept; the paper's is 0.05.
        concepts: Where concepts come from: saliency, appearance, torchvision:MODEL, or PATH.py:FUNCTION, your own code,
            which is run.
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
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
    """

    generator: str = "biggan-caltech101-64"
    weights: Path | None = None
    truncation: float = 1.0
    ablate_units: tuple[str, ...] = ()
    classes: tuple[str | int, ...] | None = None
    layers: tuple[str, ...] | None = None
    images: int = 512
    min_iou: float = 0.05
    concepts: tuple[str, ...] = ("saliency", "appearance")
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
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", read_class_files(self.classes))

    def reads(self) -> list[Path]:
        given = (self.concept_weights, self.concept_names, self.real, self.fid_weights)
        return [*generator_files(self.generator, self.weights), *filter(None, given)]

    def writes(self) -> list[Path]:
        return [
            self.run / "dissect" / name
            for name in ("dissect.html", "dissection.json", "units", "interventions.png", "artifacts.png")
        ]
