"""The settings of every stage: one frozen dataclass a stage."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What every stage needs to know.

    Args:
        run: Run folder; every stage reads and writes its own subfolder of it.
        seed: Seed of everything random; the same seed gives the same files on the same machine.
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
    """

    run: Path = Path("runs/demo")
    seed: int = 0
    device: Device = "auto"

    def reads(self) -> list[Path]:
        """Files and folders that the stage needs, apart from those of the package."""
        return self._inputs()

    def writes(self) -> list[Path]:
        """Files and folders that the stage makes."""
        return self._outputs()

    def _inputs(self) -> list[Path]:
        return []

    def _outputs(self) -> list[Path]:
        return []


@dataclass(frozen=True, kw_only=True)
class TrainGanConfig(StageConfig):
    """Stage 0: trains a class-conditional BigGAN on a folder with one subfolder of images a class.

    Args:
        images: Folder that holds one subfolder of images a class.
        exclude: Names of class folders to leave out.
        min_images: Class folders with fewer readable images are left out.
        start: Generator folder of an earlier run (generator.safetensors, discriminator.safetensors) to go on from with
            the same classes and sizes; None starts at random.
        resolution: Side of the generated images in pixels: 32, 64, 128, ...
        latent_dim: Length of z; a multiple of the number of channel values.
        embedding_dim: Length of the class embedding shared by all blocks.
        channels: Generator channels at 4 px and after every doubling up to the resolution.
        discriminator_channels: Discriminator channels after every halving, from a quarter of the pixels down.
        attention_at: Side of the feature map with self-attention in pixels; 0 for none.
        steps: Training steps; one step updates the discriminator and the generator once.
        batch: Images a step.
        lr_generator: Adam's learning rate for the generator.
        lr_discriminator: Adam's learning rate for the discriminator.
        ema: Decay a step of the averaged generator, the one that is saved.
        translation: Differentiable augmentation: largest shift as a share of the side.
        colour: Differentiable augmentation: strength of brightness, contrast and saturation changes, 0 to 1.
        precision: fp32 or bf16 (automatic mixed precision).
        sample_every: Steps between grids of samples.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
    """

    images: Path = Path("data/images")
    exclude: tuple[str, ...] = ()
    min_images: int = 2
    start: Path | None = None
    resolution: int = 64
    latent_dim: int = 120
    embedding_dim: int = 64
    channels: tuple[int, ...] = (256, 256, 128, 64, 32)
    discriminator_channels: tuple[int, ...] = (64, 128, 256)
    attention_at: int = 0
    steps: int = 20_000
    batch: int = 32
    lr_generator: float = 2e-4
    lr_discriminator: float = 4e-4
    ema: float = 0.999
    translation: float = 0.125
    colour: float = 0.3
    precision: Precision = "bf16"
    sample_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50

    def _inputs(self) -> list[Path]:
        return [self.images]

    def _outputs(self) -> list[Path]:
        return [self.run / "generator" / name for name in ("generator.safetensors", "samples", "metrics.jsonl")]


@dataclass(frozen=True, kw_only=True)
class DiscoverConfig(StageConfig):
    """Stage 1: finds K latent directions of a frozen generator, scores them and chooses the background direction.

    Args:
        generator: Name in the zoo (`biggan-caltech101-64`, `biggan-deep-128`, ...) or path of a generator file.
        weights: Folder or file with the generator's weights where they are not bundled; None uses the cache.
        truncation: Scale of the latents where the family supports it (BigGAN-deep), 0 to 1.
        classes: Class names or indices to draw from; None draws from all classes.
        K: Number of directions.
        deformator: How A is parametrised: orthonormal, unit (unit-length columns), linear, and the fixed baselines
            coordinate and random.
        reconstructor: Network that recognises direction and shift from a pair of images: resnet18 or lenet.
        steps: Training steps of A and R.
        batch: Pairs of images a step.
        lr_deformator: Adam's learning rate for A.
        lr_reconstructor: Adam's learning rate for R.
        max_shift: Shift magnitudes eps are drawn from U[-max_shift, max_shift], in units of a unit-length direction.
        min_shift: |eps| is raised to at least this, keeping its sign.
        regression_weight: lambda, the weight of the shift's loss beside the direction's cross-entropy.
        regression_loss: Loss of the predicted shift: mae or mse.
        precision: fp32 or bf16 (automatic mixed precision).
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
        rca_samples: Fresh pairs on which the reconstructor classification accuracy is measured.
        method: How h_bg is found: rank scores every discovered direction, optimise searches one by gradient.
        background_shifts: Shift magnitudes at which every direction and sign is scored.
        background_samples: Images on which a direction is scored.
        theta: Brightness threshold in [0, 1] of the masks shown and scored here; stage 2 has its own.
        direction: Index of the direction to use as h_bg; None chooses automatically.
        sign: +1 or -1, with --direction.
        shift: Shift magnitude, with --direction.
        gallery_samples: Latents a gallery picture shows; 0 draws no gallery.
    """

    generator: str = "biggan-caltech101-64"
    weights: Path | None = None
    truncation: float = 1.0
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
    precision: Precision = "bf16"
    checkpoint_every: int = 500
    log_every: int = 20
    rca_samples: int = 2048
    method: Literal["rank", "optimise"] = "rank"
    background_shifts: tuple[float, ...] = (4.0, 6.0, 9.0)
    background_samples: int = 64
    theta: float = 0.9
    direction: int | None = None
    sign: Literal[1, -1] = 1
    shift: float = 6.0
    gallery_samples: int = 6

    def _inputs(self) -> list[Path]:
        return _generator_files(self)

    def _outputs(self) -> list[Path]:
        directions = ("directions.safetensors", "directions.json", "ranking.png", "gallery")
        return [self.run / "discover" / name for name in (*directions, "reconstructor.safetensors", "metrics.jsonl")]


@dataclass(frozen=True, kw_only=True)
class MasksConfig(StageConfig):
    """Stage 2: synthesises pairs of an image G(z, c) and the mask [G(z + h_bg, c) < theta].

    Args:
        generator: Name in the zoo or path; has to be the one whose directions were discovered.
        weights: Folder or file with the generator's weights where they are not bundled; None uses the cache.
        truncation: Scale of the latents where the family supports it (BigGAN-deep), 0 to 1.
        directions: Folder with directions.safetensors and directions.json; None takes the run's discover folder, or
            the bundled directions of a bundled generator where the run has none.
        classes: Class names or indices to draw from; None draws from all classes.
        pairs: Pairs to write; more can be asked for later.
        batch: Latents drawn at once.
        rule: threshold (the paper's), difference (plus against minus shift), lighting (original against shifted) or
            two-sided (agreement of both signs).
        theta: Brightness threshold in [0, 1] of the threshold and two-sided rules, or otsu for one an image in every
            rule.
        margin: Brightness in [0, 1] that the background gains at least in the lighting and difference rules, unless
            theta is otsu; 0 as published.
        shift: Shift magnitude along h_bg; None takes the one chosen in stage 1.
        min_area: Masks that cover a smaller share of the image are rejected.
        max_area: Masks that cover a larger share of the image are rejected.
        opening: Diameter in pixels of the morphological opening; 0 for none.
        min_component: Components smaller than this share of the largest one are removed; 0 keeps all.
        fill_holes: Fill holes of the mask.
        max_border: Masks that cover a larger share of the image's border are rejected; 1 accepts all.
        two_peaks: Reject shifted images whose 12-bin brightness histogram has fewer than two peaks.
        min_agreement: Reject masks whose IoU with a second rule's is lower: lighting, or threshold where the rule is
            lighting; 0 for no check.
        shard_size: Pairs a shard.
        image_format: png or jpg for the images; masks are always png.
        precision: fp32 or bf16 (automatic mixed precision) in the generator.
    """

    generator: str = "biggan-caltech101-64"
    weights: Path | None = None
    truncation: float = 1.0
    directions: Path | None = None
    classes: tuple[str | int, ...] | None = None
    pairs: int = 10_000
    batch: int = 64
    rule: Literal["threshold", "difference", "lighting", "two-sided"] = "threshold"
    theta: float | Literal["otsu"] = 0.9
    margin: float = 0.0
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
    precision: Precision = "bf16"

    def _inputs(self) -> list[Path]:
        return [*_generator_files(self), self.directions or self.run / "discover"]

    def _outputs(self) -> list[Path]:
        return [self.run / "masks" / name for name in ("shard-*.tar", "manifest.json", "preview.png", "records")]


@dataclass(frozen=True, kw_only=True)
class TrainSaliencyConfig(StageConfig):
    """Stage 3: trains a U-Net saliency model on synthetic pairs.

    Args:
        source: shards reads the run's masks folder; generator synthesises pairs on the fly with the masks settings.
        shards: Folder with shards and manifest.json; None takes the run's masks folder.
        architecture: Decoder of segmentation-models-pytorch: Unet, UnetPlusPlus, FPN, ...
        encoder: Encoder of segmentation-models-pytorch.
        encoder_weights: none starts at random and downloads nothing; imagenet downloads.
        decoder_channels: Channels of the decoder, coarsest first, one number for every halving that the encoder does;
            [] takes the library's own.
        stem_pool: Keep the max-pool in the stem of a ResNet encoder; without it all features are twice as fine.
        resolution: Side in pixels of the training images, a multiple of 32.
        steps: Training steps.
        batch: Pairs a step.
        loss: bce+dice, or paper (cross-entropy on two logits divided by 10).
        optimiser: adamw or adam.
        lr: Learning rate at the start.
        weight_decay: Weight decay of adamw.
        lr_drops: Steps, as shares of all steps, at which the learning rate is multiplied by lr_factor.
        lr_factor: What a drop multiplies the learning rate by.
        ema: Decay a step of the averaged weights, the ones that are saved.
        augment: Augmentation: none, flips, or full (flips, crops, zoom-out, colour, blur, JPEG, resampling, dropout).
        validation_pairs: Synthetic pairs that are held out of training.
        photos: Folder with images/ and masks/ of photos that every checkpoint is measured on; the one with the best IoU
            is kept. None measures none and keeps the last.
        precision: fp32 or bf16 (automatic mixed precision).
        workers: Processes that augment pairs from shards; 0 does it in the main process.
        checkpoint_every: Steps between checkpoints and validations.
        log_every: Steps between lines of metrics.jsonl.
    """

    source: Literal["shards", "generator"] = "shards"
    shards: Path | None = None
    architecture: str = "Unet"
    encoder: str = "resnet18"
    encoder_weights: Literal["none", "imagenet"] = "none"
    decoder_channels: tuple[int, ...] = (128, 64, 32, 16)
    stem_pool: bool = False
    resolution: int = 64
    steps: int = 4000
    batch: int = 64
    loss: Literal["bce+dice", "paper"] = "bce+dice"
    optimiser: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    lr_drops: tuple[float, ...] = (0.6, 0.85)
    lr_factor: float = 0.2
    ema: float = 0.998
    augment: Literal["none", "flips", "full"] = "full"
    validation_pairs: int = 500
    photos: Path | None = None
    precision: Precision = "bf16"
    workers: int = 1
    checkpoint_every: int = 250
    log_every: int = 20

    def _inputs(self) -> list[Path]:
        pairs = self.run / "discover" if self.source == "generator" else self.shards or self.run / "masks"
        return [pairs, *([self.photos] if self.photos else [])]

    def _outputs(self) -> list[Path]:
        return [self.run / "saliency" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(StageConfig):
    """Self-training of the saliency model on unlabelled photos; beyond the paper.

    Args:
        images: Folder of unlabelled photos, searched with its subfolders.
        max_images: Photos used at the most, drawn at random.
        held_out: Photos that are never trained on; their agreement decides which round is best.
        weights: Saliency model to start from (model.safetensors); None takes the run's saliency folder.
        shards: Folder of synthetic pairs to mix in; None takes the run's masks folder, where there is one.
        synthetic_share: Share of a batch that is synthetic pairs, 0 to 1.
        rounds: Rounds of marking photos and training on them at the most; it stops when agreement stops rising.
        resolution: Side in pixels at which photos are marked and trained on, a multiple of 32; None takes the model's.
        scales: Factors of resolution at which a photo is marked, each as it is and mirrored.
        min_confidence: Photos whose mean certainty |2 p - 1| is lower are left out, 0 to 1.
        min_agreement: Photos whose masks under flips and scales agree with a lower IoU are left out, 0 to 1.
        min_area: Photos whose mask covers a smaller share are left out.
        max_area: Photos whose mask covers a larger share are left out.
        refine: grabcut refines the masks by colour, none keeps them.
        grabcut_iterations: Iterations of GrabCut.
        grabcut_certainty: Saliency from which a pixel is surely foreground to GrabCut, and surely background below 1
            minus this, 0.5 to 1.
        min_refined_iou: Where the refined mask overlaps the model's own with a lower IoU, the model's own is kept.
        steps: Training steps a round.
        batch: Photos and synthetic pairs a step.
        lr: Learning rate at the start of a round.
        weight_decay: Weight decay of AdamW.
        lr_drops: Steps, as shares of a round's steps, at which the learning rate is multiplied by lr_factor.
        lr_factor: What a drop multiplies the learning rate by.
        ema: Decay a step of the averaged weights, the ones that mark the next round's photos.
        augment: Augmentation: none, flips, or full.
        photos: Folder with images/ and masks/ of photos that every round is measured on, for the record only.
        precision: fp32 or bf16 (automatic mixed precision).
        workers: Processes that augment; 0 does it in the main process.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
    """

    images: Path = Path("data/photos")
    max_images: int = 10_000
    held_out: int = 300
    weights: Path | None = None
    shards: Path | None = None
    synthetic_share: float = 0.25
    rounds: int = 3
    resolution: int | None = None
    scales: tuple[float, ...] = (1.0, 1.5)
    min_confidence: float = 0.6
    min_agreement: float = 0.7
    min_area: float = 0.04
    max_area: float = 0.7
    refine: Literal["grabcut", "none"] = "grabcut"
    grabcut_iterations: int = 2
    grabcut_certainty: float = 0.9
    min_refined_iou: float = 0.5
    steps: int = 600
    batch: int = 32
    lr: float = 5e-4
    weight_decay: float = 1e-2
    lr_drops: tuple[float, ...] = (0.7,)
    lr_factor: float = 0.2
    ema: float = 0.99
    augment: Literal["none", "flips", "full"] = "full"
    photos: Path | None = None
    precision: Precision = "bf16"
    workers: int = 1
    checkpoint_every: int = 200
    log_every: int = 20

    def _inputs(self) -> list[Path]:
        given = [path for path in (self.shards, self.photos) if path]
        return [self.images, self.weights or self.run / "saliency" / "model.safetensors", *given]

    def _outputs(self) -> list[Path]:
        return [self.run / "saliency-adapted" / name for name in ("model.safetensors", "config.json", "metrics.jsonl")]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StageConfig):
    """Measures a saliency model, or maps that another program made, against drawn masks.

    Args:
        images: Folder of photos.
        masks: Folder of masks, named as the photos.
        maps: Folder of finished saliency maps to measure instead of a model's.
        benchmark: Name of a standard benchmark; its layout and number of pairs are checked.
        root: Folder that the benchmark was unpacked into.
        weights: Saliency model (model.safetensors or its folder); None takes the run's, or the bundled one
            where the run has none.
        compare: Further saliency models to measure beside it, as name=path or `bundled`.
        baselines: Measure centre prior, all foreground, Otsu and contrast saliency in the same run.
        batch: Photos predicted at once.
        workers: Processes that score; 0 scores in the main one; None takes one a core from 100 photos on.
        output: JSON file for the figures, with table and pictures beside it; None writes NAME.json into the run's
            evaluation folder.
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

    def _inputs(self) -> list[Path]:
        compared = [Path(model.partition("=")[2]) for model in self.compare if "=" in model]
        given = (self.images, self.masks, self.maps, self.root, self.weights, *compared)
        return [path for path in given if path is not None]

    def _outputs(self) -> list[Path]:
        return [self.output or self.run / "evaluation"]


@dataclass(frozen=True, kw_only=True)
class PredictConfig(StageConfig):
    """Predicts saliency maps, masks, cut-outs and overlays of photos.

    Args:
        output: Folder for the results; a folder's photos keep their relative paths.
        save: What to write a photo: map (soft, grey PNG), mask (binary PNG), cutout (RGBA PNG), overlay (JPEG).
        threshold: Saliency in [0, 1] from which a pixel belongs to the mask.
        weights: Saliency model (model.safetensors); None takes the bundled one.
        resolution: Side in pixels of the square that a photo is squeezed into; None takes the model's own.
        scales: Factors of that side; the maps of all are averaged.
        flip: Average with the map of the mirrored photo.
        batch: Photos predicted at once.
    """

    output: Path = Path("predictions")
    save: tuple[Literal["map", "mask", "cutout", "overlay"], ...] = ("map", "mask")
    threshold: float = 0.5
    weights: Path | None = None
    resolution: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    batch: int = 8

    def _inputs(self) -> list[Path]:
        return [self.weights] if self.weights else []

    def _outputs(self) -> list[Path]:
        return [self.output]


@dataclass(frozen=True, kw_only=True)
class ReportConfig(StageConfig):
    """Writes one self-contained HTML page about everything that a run holds.

    Args:
        output: HTML file; None writes report.html into the run folder.
    """

    output: Path | None = None

    def _inputs(self) -> list[Path]:
        return [self.run]

    def _outputs(self) -> list[Path]:
        return [self.output or self.run / "report.html"]


STAGES: dict[str, type[StageConfig]] = {
    "train-gan": TrainGanConfig,
    "discover": DiscoverConfig,
    "masks": MasksConfig,
    "train-saliency": TrainSaliencyConfig,
    "adapt": AdaptConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "report": ReportConfig,
}
"""Verb of the command line and section of a pipeline YAML -> settings."""


def _generator_files(config: DiscoverConfig | MasksConfig) -> list[Path]:
    """The generator's weights where they are neither bundled nor in the cache."""
    if config.weights:
        return [config.weights]
    path = Path(config.generator)
    return [path] if path.suffix or len(path.parts) > 1 else []


def to_plain(config: Any) -> dict[str, Any]:
    """A config as YAML can hold it: paths as text, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        return value

    return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
