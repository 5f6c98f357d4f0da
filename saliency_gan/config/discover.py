"""Settings of `discover`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saliency_gan.compute.processes import own_parts
from saliency_gan.config.checks import require, require_not_negative, require_positive, require_shifts
from saliency_gan.config.generator import DrawingConfig
from saliency_gan.storage.run_layout import Input

DeformatorKind = Literal["orthonormal", "unit", "linear", "mlp", "coordinate", "random"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, kw_only=True)
class DiscoverConfig(DrawingConfig):
    """Stage 1: finds K latent directions of a frozen generator, scores them and chooses the background direction.

    Args:
        start: Discover folder of an earlier run with the same K, or a generator that is bundled with directions: A and
            R begin as they ended there. By default they begin at random.
        K: Number of directions to train; 0 trains none and uses only the generator's own directions (EigenGAN).
        deformator: Parametrisation of the direction matrix A: orthonormal, unit (columns of unit length) or linear; mlp
            is a network, whose directions are curves; coordinate and random are fixed baselines.
        reconstructor: Network R, which predicts direction and shift from a pair of images: resnet18 or lenet.
        steps: Training steps of A and R.
        batch: Pairs of images per step, summed over all processes of a torchrun job.
        lr_deformator: Adam's learning rate for A.
        lr_reconstructor: Adam's learning rate for R.
        schedule: Both learning rates over the steps: constant, as published, or cosine, which falls to 0 and gives a
            higher RCA in short runs. With cosine, a run cannot be continued with more steps.
        max_shift: The shift eps is drawn from U[-max_shift, max_shift], in units of a unit-length direction.
        min_shift: Smallest |eps|; smaller shifts are raised to it and keep their sign.
        regression_weight: lambda, the weight of the regression loss of the shift; the cross-entropy of the direction
            has weight 1.
        regression_loss: Loss of the predicted shift: mae or mse.
        accumulate: Gradient accumulation: each batch is split into this many parts to save memory; the batch size stays
            the same.
        compile: Compile G and R with torch.compile; takes a minute at the start.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
        rca_samples: New pairs of images on which the reconstructor classification accuracy (RCA) is measured.
        rca_every: Steps between measurements of the RCA during training, which are written to metrics.jsonl; 0 measures
            only at the end.
        method: How h_bg is found: rank scores every discovered direction and takes the best, optimise finds one by
            gradient steps.
        optimise_steps: Gradient steps of --method optimise, for each polarity.
        background_shifts: Shift magnitudes at which every direction and sign is scored.
        background_samples: Images on which each direction is scored.
        theta: Brightness threshold in [0, 1] of the masks that this stage shows and scores; stage 2 has its own theta.
        direction: Index or name (see annotate) of the direction to use as h_bg; by default the best one.
        sign: Sign of h_bg, +1 or -1; used only with --direction.
        shift: Shift magnitude; used only with --direction.
        gallery_samples: Latents in each gallery picture; 0 draws no gallery.
    """

    start: Path | None = None
    K: int = 120
    deformator: DeformatorKind = "orthonormal"
    reconstructor: Literal["resnet18", "lenet"] = "resnet18"
    steps: int = 100_000
    batch: int = 32
    lr_deformator: float = 1e-4
    lr_reconstructor: float = 1e-4
    schedule: Schedule = "constant"
    max_shift: float = 6.0
    min_shift: float = 0.5
    regression_weight: float = 0.25
    regression_loss: Literal["mae", "mse"] = "mae"
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

    @property
    def named_directions(self) -> Path | None:
        return self.start

    def inputs(self) -> dict[str, Input]:
        beginning = {"start": self.layout.directions(self.start, "")} if self.start else {}
        return {**super().inputs(), **beginning}

    def check(self) -> None:
        continues = self.K > 0 and self.deformator in ("orthonormal", "unit", "linear")
        require(self, "start", self.start is None or continues, "left out: only a matrix A that is trained continues")
        require(self, "max_shift", self.max_shift > 0, "above 0")
        require(self, "min_shift", 0 <= self.min_shift <= self.max_shift, f"from 0 to --max_shift {self.max_shift:g}")
        require_not_negative(self, "K", "steps", "rca_every", "rca_samples", "optimise_steps", "gallery_samples")
        require(self, "rca_samples", self.rca_samples > 0 or not self.rca_every, "1 or more with --rca_every")
        own_parts(self.batch, self.accumulate)
        least = 2 * self.accumulate
        require(self, "batch", self.batch >= least, f"{least} or more, for batch normalisation in R")
        require_positive(self, "background_samples", "checkpoint_every", "log_every")
        require_not_negative(self, "lr_deformator", "lr_reconstructor")
        positive = "positive: --sign flips a direction"
        require(self, "background_shifts", min(self.background_shifts, default=0) > 0, positive)
        require(self, "shift", self.shift > 0, positive)
        require_shifts(self, "max_shift", self.max_shift)
        require_shifts(self, "background_shifts", *self.background_shifts)
        require_shifts(self, "shift", self.shift)
        require(self, "theta", 0 < self.theta < 1, "between 0 and 1")

    def writes(self) -> list[Path]:
        directions = ("directions.safetensors", "directions.json", "ranking.png", "gallery")
        return [self.run / "discover" / name for name in (*directions, "reconstructor.safetensors", "metrics.jsonl")]
