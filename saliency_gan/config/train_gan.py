"""Settings of `train-gan`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from saliency_gan.compute.processes import own_parts
from saliency_gan.compute.types import Precision
from saliency_gan.config.checks import require, require_not_negative, require_positive, require_share
from saliency_gan.config.stage import StageConfig
from saliency_gan.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainGanConfig(StageConfig):
    """Stage 0: trains a BigGAN on class folders, an SN-GAN on any images, or an EigenGAN on either.

    Args:
        family: biggan, sngan or eigengan.
        images: Folder with one subfolder of images per class (biggan, and eigengan with an embedding). For sngan, and
            for eigengan without an embedding, any folder (searched recursively), an .npz archive of images, or mnist,
            which is downloaded into data/MNIST.
        exclude: Names of class folders to leave out.
        min_images: Class folders with fewer readable images are left out.
        start: Generator folder of an earlier run (generator.safetensors, discriminator.safetensors) with the same
            classes and sizes; training starts from its weights. By default the weights are random.
        start_discriminator: Folder whose discriminator.safetensors replaces the one in start, of any family with the
            same classes and discriminator_channels. A discriminator that was trained on these images makes the training
            of a new generator faster.
        resolution: Side of the generated images in pixels: 32, 64, 128, ...
        image_channels: 3 for colour, 1 for grey (sngan).
        latent_dim: Length of z; for biggan a multiple of the number of values in channels; for eigengan the length of
            the noise only.
        embedding_dim: Length of the class embedding. In biggan all blocks share it; in eigengan it is concatenated to
            the noise, and 0 makes the generator unconditional.
        subspace_dim: Dimension q of the subspace of every layer (eigengan).
        channels: Generator channels at 4 x 4 pixels and after every upsampling by 2, up to the resolution.
        discriminator: residual sees the image; projected sees features of a frozen ImageNet network
            (EfficientNet-Lite1).
        discriminator_channels: Channels of the residual discriminator after every downsampling by 2, which starts at
            half the image's side.
        feature_side: Side in pixels to which images are resized for the frozen network of the projected discriminator:
            64, 128 or 256.
        attention_at: Side in pixels of the feature map that has self-attention; 0 for none (biggan).
        steps: Training steps; one step updates the discriminator and the generator once.
        batch: Images per step, summed over all processes of a torchrun job.
        lr_generator: Adam's learning rate for the generator.
        lr_discriminator: Adam's learning rate for the discriminator.
        generator_loss: Loss of the generator: linear is -D(G), hinge is relu(1 - D(G)).
        r1: Weight of the gradient penalty R1 on real images; 0 for none.
        r1_every: Lazy R1: the penalty is computed every r1_every steps and scaled by r1_every.
        orthogonality: Weight of the penalty |U^T U - I|^2 / q^2 (eigengan); exact makes the bases orthonormal after
            every step.
        flip: Mirror half of the training images.
        ema: EMA decay per step of the generator's weights; the averaged generator is saved. The first steps use a lower
            decay, also with --start, so even a short training is saved as what it learned.
        translation: Differentiable augmentation: largest shift as a share of the side.
        colour: Differentiable augmentation: strength of brightness, contrast and saturation changes, 0 to 1.
        distance_images: Number of generated images that are compared with the training photos at the end, in the
            features of EfficientNet-Lite2, which GAN training does not use; 0 skips this, and so does a single photo.
        precision: fp32, bf16 (automatic mixed precision), or auto: bf16 if the hardware supports it, else fp32.
        compile: Compile both networks with torch.compile; takes a minute at the start.
        sample_every: Steps between grids of samples.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of metrics.jsonl.
    """

    family: Literal["biggan", "sngan", "eigengan"] = "biggan"
    images: Path = Path("data/images")
    exclude: tuple[str, ...] = ()
    min_images: int = 2
    start: Path | None = None
    start_discriminator: Path | None = None
    resolution: int = 64
    image_channels: int = 3
    latent_dim: int = 120
    embedding_dim: int = 64
    subspace_dim: int = 6
    channels: tuple[int, ...] = (256, 256, 128, 64, 32)
    discriminator: Literal["projected", "residual"] = "residual"
    discriminator_channels: tuple[int, ...] = (64, 128, 256)
    feature_side: Literal[64, 128, 256] = 128
    attention_at: int = 0
    steps: int = 20_000
    batch: int = 32
    lr_generator: float = 2e-4
    lr_discriminator: float = 4e-4
    generator_loss: Literal["linear", "hinge"] = "linear"
    r1: float = 0.0
    r1_every: int = 8
    orthogonality: float | Literal["exact"] = 1.0
    flip: bool = True
    ema: float = 0.999
    translation: float = 0.125
    colour: float = 0.3
    distance_images: int = 5000
    precision: Precision = "auto"
    compile: bool = False
    sample_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50

    def check(self) -> None:
        require_positive(self, "resolution", "latent_dim", "subspace_dim", "batch", "r1_every")
        require_positive(self, "sample_every", "checkpoint_every", "log_every")
        require_not_negative(self, "min_images", "embedding_dim", "attention_at", "steps", "r1", "distance_images")
        require_not_negative(self, "lr_generator", "lr_discriminator")
        require_share(self, "translation", "colour")
        for name in ("channels", "discriminator_channels"):
            require(self, name, min(getattr(self, name), default=0) >= 1, "one or more numbers of 1 or more")
        require(self, "ema", 0 <= self.ema < 1, "from 0 to below 1")
        require(self, "distance_images", self.distance_images != 1, "2 or more, or 0 for no distance")
        weight = 0 if self.orthogonality == "exact" else self.orthogonality
        require(self, "orthogonality", weight >= 0, "0 or more, or exact")
        own_parts(self.batch, accumulate=1)
        require(self, "image_channels", self.image_channels in (1, 3), "3 for colour or 1 for grey")
        colour = self.image_channels == 3 or self.family == "sngan"
        require(self, "image_channels", colour, f"3: {self.family} draws in colour, and only sngan in grey")
        has_classes = self.embedding_dim >= 1 or self.family != "biggan"
        require(self, "embedding_dim", has_classes, "1 or more for --family biggan, which is drawn by class")
        if self.r1 and self.compile:
            raise UserError("--r1 differentiates D twice, which torch.compile cannot: leave out --compile or --r1.")
        self._refuse_unused()

    def _refuse_unused(self) -> None:
        """Refuses settings that the chosen family or discriminator would ignore."""
        uses = {
            "--family biggan": (self.family == "biggan", ("attention_at",)),
            "--family eigengan": (self.family == "eigengan", ("subspace_dim", "orthogonality")),
            "class folders": (self.has_classes, ("exclude", "min_images")),
            "--discriminator residual": (self.discriminator == "residual", ("r1",)),
        }
        defaults = {field.name: field.default for field in fields(self)}
        for user, (used, names) in uses.items():
            for name in names:
                if not used and getattr(self, name) != defaults[name]:
                    raise UserError(f"--{name} is for {user}: leave it out.")

    @property
    def has_classes(self) -> bool:
        """Whether the generator is trained on class folders; otherwise it is trained on any images."""
        return self.family == "biggan" or (self.family == "eigengan" and self.embedding_dim > 0)

    def reads(self) -> list[Path]:
        images = [] if self.images == Path("mnist") else [self.images]
        return [*images, *filter(None, (self.start, self.start_discriminator))]

    def writes(self) -> list[Path]:
        return [
            self.run / "generator" / name
            for name in (
                "generator.safetensors",
                "discriminator.safetensors",
                "samples",
                "metrics.jsonl",
                "distance.json",
                "nearest.png",
            )
        ]
