"""Settings of `discover` and `masks`, the stages that draw from a frozen generator."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.compute.types import Precision
from saliency_gan.config.classes import read_class_files
from saliency_gan.config.stage import StageConfig
from saliency_gan.storage.bundled import directions_folder

MaskRule = Literal["threshold", "difference", "lighting", "two-sided", "units"]


@dataclass(frozen=True, kw_only=True)
class DiscoverConfig(StageConfig):
    """Stage 1: finds K latent directions of a frozen generator, scores them and chooses the background direction.

    Args:
        generator: Name in the zoo (`biggan-caltech101-64`, `biggan-deep-128`, ...), path of a generator file, or
            PATH.py:FUNCTION, your own code: the file is run, and FUNCTION returns the generator.
        weights: Folder or file with the generator's weights where they are not bundled; by default the cache.
        truncation: Scale of the latents where the family supports it (BigGAN-deep), 0 to 1.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42); given once a
            layer.
        classes: Class names, indices and ranges (10-20) to draw from, or @FILE with one per line; by default all
            classes.
        K: Number of directions; 0 trains none and leaves those that the generator itself names (EigenGAN).
        deformator: How A is parametrised: orthonormal, unit (unit-length columns), linear, and the fixed baselines
            coordinate and random.
        reconstructor: Network that recognises direction and shift from a pair of images: resnet18 or lenet.
        steps: Training steps of A and R.
        batch: Pairs of images per step, over all processes of a torchrun job together.
        lr_deformator: Adam's learning rate for A.
        lr_reconstructor: Adam's learning rate for R.
        max_shift: Shift magnitudes eps are drawn from U[-max_shift, max_shift], in units of a unit-length direction.
        min_shift: |eps| is raised to at least this, keeping its sign.
        regression_weight: lambda, the weight of the shift's loss beside the direction's cross-entropy.
        regression_loss: Loss of the predicted shift: mae or mse.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
        accumulate: Parts that a batch is done in, one after the other, to save memory; the batch stays as large.
        compile: Compile G and R with torch.compile; takes a minute at the start.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
        rca_samples: Fresh pairs on which the reconstructor classification accuracy (RCA) is measured.
        rca_every: Steps between measurements of the RCA during training, for metrics.jsonl; 0 measures it at the end
            only.
        method: How h_bg is found: rank scores every discovered direction, optimise searches one by gradient.
        optimise_steps: Gradient steps of that search, for each polarity.
        background_shifts: Shift magnitudes at which every direction and sign is scored.
        background_samples: Images on which a direction is scored.
        theta: Brightness threshold in [0, 1] of the masks shown and scored here; stage 2 has its own.
        direction: Index or name (see annotate) of the direction to use as h_bg; by default the best one.
        sign: +1 or -1, with --direction.
        shift: Shift magnitude, with --direction.
        gallery_samples: Latents a gallery picture shows; 0 draws no gallery.
    """

    generator: str = "biggan-caltech101-64"
    weights: Path | None = None
    truncation: float = 1.0
    ablate_units: tuple[str, ...] = ()
    classes: tuple[str | int, ...] | None = None
    K: int = 120
    deformator: Literal["orthonormal", "unit", "linear", "coordinate", "random"] = "orthonormal"
    reconstructor: Literal["resnet18", "lenet"] = "resnet18"
    steps: int = 100_000
    batch: int = 32
    lr_deformator: float = 1e-4
    lr_reconstructor: float = 1e-4
    max_shift: float = 6.0
    min_shift: float = 0.5
    regression_weight: float = 0.25
    regression_loss: Literal["mae", "mse"] = "mae"
    precision: Precision = "auto"
    accumulate: int = 1
    compile: bool = False
    checkpoint_every: int = 500
    log_every: int = 20
    rca_samples: int = 2048
    rca_every: int = 0
    method: Literal["rank", "optimise"] = "rank"
    optimise_steps: int = 300
    background_shifts: tuple[float, ...] = (4.0, 6.0, 9.0)
    background_samples: int = 64
    theta: float = 0.9
    direction: int | str | None = None
    sign: Literal[1, -1] = 1
    shift: float = 6.0
    gallery_samples: int = 6

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", read_class_files(self.classes))

    def reads(self) -> list[Path]:
        return generator_files(self.generator, self.weights)

    def writes(self) -> list[Path]:
        directions = ("directions.safetensors", "directions.json", "ranking.png", "gallery")
        return [self.run / "discover" / name for name in (*directions, "reconstructor.safetensors", "metrics.jsonl")]


@dataclass(frozen=True, kw_only=True)
class MasksConfig(StageConfig):
    """Stage 2: synthesises pairs of an image G(z, c) and the mask [G(z + h_bg, c) < theta].

    Args:
        generator: Name in the zoo, path of a generator file, or PATH.py:FUNCTION, which is run; has to be the one whose
            directions were discovered, or units dissected.
        weights: Folder or file with the generator's weights where they are not bundled; by default the cache.
        truncation: Scale of the latents where the family supports it (BigGAN-deep), 0 to 1.
        ablate_units: Units of the generator to switch off in every image, LAYER:U,U,U (block1:3,17,42); given once a
            layer.
        directions: Folder with directions.safetensors and directions.json; by default the run's discover folder, or
            the bundled directions of a bundled generator where the run has none.
        dissection: Folder with the dissection.json whose units the units rule asks; by default the run's dissect
            folder.
        classes: Class names, indices and ranges (10-20) to draw from, or @FILE with one per line; by default all
            classes.
        pairs: Pairs to write; more can be asked for later.
        batch: Latents drawn at once.
        rule: threshold (the paper's), difference (plus against minus shift), lighting (original against shifted),
            two-sided (agreement of both signs), units (votes of the units that paint the object, no shift; run dissect
            first) or consensus (of several of these).
        theta: Brightness threshold in [0, 1] of the threshold and two-sided rules, or otsu for one an image in every
            rule.
        margin: Brightness in [0, 1] that the background gains at least in the lighting and difference rules, unless
            theta is otsu; 0 as published.
        votes: Share of the units' votes above which the units rule calls a pixel object, unless theta is otsu.
        consensus: The rules that the consensus rule asks.
        quorum: How many of them have to call a pixel object; by default more than half, all for their intersection.
        shift: Shift magnitude along h_bg; by default the one chosen in stage 1.
        min_area: Masks that cover a smaller share of the image are rejected.
        max_area: Masks that cover a larger share of the image are rejected.
        opening: Diameter in pixels of the morphological opening; 0 for none.
        min_component: Components smaller than this share of the largest one are removed; 0 keeps all.
        fill_holes: Fill holes of the mask.
        max_border: Masks that cover a larger share of the image's border are rejected; 1 accepts all.
        two_peaks: Reject shifted images whose 12-bin brightness histogram has fewer than two peaks.
        min_agreement: Reject masks whose IoU with a second rule's is lower: lighting, or threshold where the rule is
            lighting. For the consensus rule it is the mean IoU of any two of its rules. 0 for no check.
        shard_size: Pairs a shard.
        image_format: png or jpg for the images; masks are always png.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 where the hardware computes in it.
    """

    generator: str = "biggan-caltech101-64"
    weights: Path | None = None
    truncation: float = 1.0
    ablate_units: tuple[str, ...] = ()
    directions: Path | None = None
    dissection: Path | None = None
    classes: tuple[str | int, ...] | None = None
    pairs: int = 10_000
    batch: int = 64
    rule: MaskRule | Literal["consensus"] = "threshold"
    theta: float | Literal["otsu"] = 0.9
    margin: float = 0.0
    votes: float = 0.5
    consensus: tuple[MaskRule, ...] = ("threshold", "units")
    quorum: int | None = None
    shift: float | None = None
    min_area: float = 0.05
    max_area: float = 0.6
    opening: int = 3
    min_component: float = 0.2
    fill_holes: bool = True
    max_border: float = 0.5
    two_peaks: bool = False
    min_agreement: float = 0.0
    shard_size: int = 1000
    image_format: Literal["png", "jpg"] = "png"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", read_class_files(self.classes))

    @property
    def rules(self) -> tuple[MaskRule, ...]:
        """The rules that are asked: those of a consensus, or the rule and the one that it is compared with."""
        if self.rule == "consensus":
            return self.consensus
        second: MaskRule = "threshold" if self.rule == "lighting" else "lighting"
        return (self.rule, second) if self.min_agreement else (self.rule,)

    @property
    def shifts(self) -> bool:
        """Whether anything is shifted along h_bg."""
        return self.two_peaks or any(rule != "units" for rule in self.rules)

    def reads(self) -> list[Path]:
        directions = [self.directions or directions_folder(self.run, self.generator)] if self.shifts else []
        dissection = [self.dissection or self.run / "dissect"] if "units" in self.rules else []
        return [*generator_files(self.generator, self.weights), *directions, *dissection]

    def writes(self) -> list[Path]:
        return [self.run / "masks" / name for name in ("shard-*.tar", "manifest.json", "preview.png", "records")]


def generator_files(generator: str, weights: Path | None) -> list[Path]:
    """The generator's weights where they are neither bundled nor in the cache, and the user's own code."""
    source, is_code, _ = generator.rpartition(".py:")
    if is_code:
        return [Path(f"{source}.py"), *([weights] if weights else [])]
    if weights:
        return [weights]
    path = Path(generator)
    return [path] if path.suffix or len(path.parts) > 1 else []
