"""Trains a generator and its discriminator, step by step, and keeps the average of the generator."""

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.compute.averaging import measure_statistics, update_average
from saliency_gan.compute.batch_norm import synchronise
from saliency_gan.compute.devices import mean_over_processes
from saliency_gan.compute.processes import own_parts, rank, world_size
from saliency_gan.config import TrainGanConfig
from saliency_gan.errors import UserError
from saliency_gan.generators.augmentation import augment
from saliency_gan.generators.discriminators import (
    kind_of,
    load_discriminator,
    new_critic,
)
from saliency_gan.generators.eigengan import EigenGAN
from saliency_gan.generators.families import TrainedGenerator, new_generator
from saliency_gan.generators.health import layer_health
from saliency_gan.generators.objectives import (
    generator_loss,
    gradient_penalty,
    keep_orthonormal,
    orthogonality_penalty,
)
from saliency_gan.generators.training_images import TrainingImages
from saliency_gan.generators.zoo import load_generator
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_signed, to_uint8
from saliency_gan.runs.random_streams import Stream, random_stream

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FINAL_BATCHES = 64
"""Batches of 64 images over which the batch statistics of the finished generator are measured."""


class GanTrainer:
    """Holds the two networks, their optimisers and the EMA generator, and does the training steps."""

    def __init__(self, config: TrainGanConfig, data: TrainingImages, fabric: "Fabric") -> None:
        torch.manual_seed(config.seed)
        generator = new_generator(config, data.names)
        generator.initialise(random_stream(config.seed, Stream.GAN_WEIGHTS))
        self.config, self.data, self.fabric = config, data, fabric
        critic = new_critic(config, len(data.names), generator.channels)
        self.eye, discriminator = critic.eye.to(fabric.device), critic.judge
        (own,) = own_parts(config.batch, accumulate=1)
        self.own = slice(own.start, own.stop)
        if config.compile:
            generator.compile()
            discriminator.compile()
        self.weights = data.sampling_weights()
        self.images = hashlib.sha256(data.images.data).hexdigest()
        self.average = copy.deepcopy(generator).to(fabric.device).requires_grad_(False)
        self.generator, self.generator_optimiser = _setup(fabric, generator, config.lr_generator)
        self.discriminator, self.discriminator_optimiser = _setup(fabric, discriminator, config.lr_discriminator)
        self.step = 0

    def start_from(self, generator_folder: Path | None, discriminator_folder: Path | None) -> None:
        """Loads the weights of finished runs, if any are given. The optimisers start without state.

        Raises:
            UserError: If the weights are missing, damaged, or of other classes or sizes.
        """
        if generator_folder:
            self._start_generator(generator_folder)
        folder = discriminator_folder or generator_folder
        if folder is None:
            return
        path, kind = folder / "discriminator.safetensors", self.config.discriminator
        if discriminator_folder is None and (found := kind_of(path)) not in ("", kind):
            print(f"{path} is a {found} discriminator, so the {kind} one begins anew.")
        else:
            load_discriminator(self.discriminator.module, path)

    def _start_generator(self, folder: Path) -> None:
        generator = load_generator(str(folder / "generator.safetensors"))
        if generator.class_names != self.data.names:
            raise UserError(
                f"{folder} holds a generator of {generator.num_classes} classes that differ from the"
                f" {len(self.data.names)} in {self.config.images}: leave --start out, or give the same class folders."
            )
        try:
            for network in (self.average, self.generator):
                network.load_state_dict(generator.state_dict())
        except RuntimeError:
            raise UserError(
                f"The generator in {folder} is of another family or has other sizes than this config: give its family,"
                " resolution, latent_dim, embedding_dim, channels, image_channels and attention_at."
            ) from None

    def train_step(self) -> dict[str, Tensor]:
        """Updates D on real and generated images, then G on the same generated images with another augmentation.

        Returns:
            The losses and D's mean scores.
        """
        random = random_stream(self.config.seed, Stream.GAN_STEP, self.step)
        reals, real_classes = self._real_batch(random)
        fakes, fake_classes = self._draw(random)
        if world_size() > 1:
            random = random_stream(self.config.seed, Stream.GAN_STEP, self.step, rank())
        shown = self._augment(torch.cat([reals, fakes.detach()]), random)
        scores = self.discriminator(self._see(shown), torch.cat([real_classes, fake_classes]))
        real_scores, fake_scores = scores.float().chunk(2)
        discriminator_loss = F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()
        self._update(
            self.discriminator_optimiser, discriminator_loss + self._penalty(shown[: len(reals)], real_classes)
        )

        self.discriminator.requires_grad_(False)
        with self.fabric.no_backward_sync(self.discriminator):  # it has no gradients now
            fooled = self.discriminator(self._see(self._augment(fakes, random)), fake_classes)
        loss = generator_loss(fooled, self.config.generator_loss)
        weight = self.config.orthogonality
        if weight != "exact":
            loss = loss + weight * orthogonality_penalty(self.generator.module)
        self._update(self.generator_optimiser, loss)
        if weight == "exact":
            keep_orthonormal(self.generator.module)
        self.discriminator.requires_grad_(True)

        self.step += 1
        update_average(self.average, self.generator, self.config.ema, self.step)
        losses = {
            "loss_discriminator": discriminator_loss.detach(),
            "loss_generator": loss.detach(),
            "score_real": real_scores.detach().mean(),
            "score_fake": fake_scores.detach().mean(),
        }
        return {name: mean_over_processes(value) for name, value in losses.items()}

    def _penalty(self, images: Tensor, classes: Tensor) -> Tensor | float:
        """Lazy R1: every r1_every steps, scaled by r1 * r1_every; 0 in all other steps."""
        if not self.config.r1 or self.step % self.config.r1_every:
            return 0.0
        images = images.detach().requires_grad_()
        # Uses the inner module, because Fabric allows only its own backward on the wrapped module.
        with self.fabric.autocast():
            scores = self.discriminator.module(images, classes)
        return self.config.r1 * self.config.r1_every * gradient_penalty(images, scores)

    def _real_batch(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.multinomial(self.weights, self.config.batch, replacement=True, generator=random)
        flip = torch.rand(len(chosen), 1, 1, 1, generator=random) < (0.5 if self.config.flip else 0.0)
        device, chosen = self.fabric.device, chosen[self.own]
        images = to_signed(self.data.images[chosen.numpy()], device)
        images = torch.where(flip[self.own].to(device), images.flip(3), images)
        return images, self.data.labels[chosen].to(device)

    def _draw(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Generates images with the current generator, and returns them with their classes.

        The classes are drawn with the same weights as the real images.
        """
        latents = torch.randn(self.config.batch, self.average.latent_dim, generator=random)
        chosen = torch.multinomial(self.weights, self.config.batch, replacement=True, generator=random)
        classes = self.data.labels[chosen][self.own].to(self.fabric.device)
        return self.generator(latents[self.own].to(self.fabric.device), classes), classes

    def _augment(self, images: Tensor, random: torch.Generator) -> Tensor:
        augmented = augment(images, self.config.translation, self.config.colour, random)
        return augmented.contiguous(memory_format=torch.channels_last)

    def _see(self, images: Tensor) -> Any:
        """Returns D's input: the output of the fixed part of the discriminator for the images."""
        with self.fabric.autocast():
            return self.eye(images)

    def _update(self, optimiser: Any, loss: Tensor) -> None:
        optimiser.zero_grad()
        self.fabric.backward(loss)
        optimiser.step()

    def _fresh_batches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields latents and classes to measure batch statistics with."""
        for index in range(count):
            random = random_stream(self.config.seed, Stream.GAN_STATISTICS, index)
            latents = torch.randn(64, self.average.latent_dim, generator=random).to(self.fabric.device)
            chosen = torch.multinomial(self.weights, 64, replacement=True, generator=random)
            yield latents, self.data.labels[chosen].to(self.fabric.device)

    def sample_grid(self, rows: int = 8, columns: int = 12) -> ImageArray:
        """Draws a grid of images, uint8 [H, W, 3], one class per column. Every call uses the same latents."""
        measure_statistics(self.average, self._fresh_batches(4))
        random = random_stream(self.config.seed, Stream.GAN_SAMPLES)
        latents = torch.randn(rows * columns, self.average.latent_dim, generator=random)
        classes = torch.arange(columns).mul(len(self.data.names)).div(columns, rounding_mode="floor").repeat(rows)
        with torch.no_grad():
            drawn = self.average(latents.to(self.fabric.device), classes.to(self.fabric.device))
        return grid(to_uint8(drawn), columns)

    def health(self) -> dict[str, float]:
        """Measures the effect of each dimension of an EigenGAN, see `layer_health`; empty for other families."""
        if not isinstance(self.average, EigenGAN):
            return {}
        random = random_stream(self.config.seed, Stream.GAN_SAMPLES, self.step)
        latents, classes = self.average.sample(32, random)
        return layer_health(self.average, latents.to(self.fabric.device), classes.to(self.fabric.device))

    def finished_generator(self) -> TrainedGenerator:
        """Returns the EMA generator after measuring its batch statistics."""
        keep_orthonormal(self.average)
        measure_statistics(self.average, self._fresh_batches(FINAL_BATCHES))
        return self.average

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume. Random streams depend only on the seed and the step."""
        return {
            "step": self.step,
            "class_names": list(self.data.names),
            "images": self.images,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "generator_optimiser": self.generator_optimiser.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores `state()`.

        Raises:
            UserError: If the checkpoint was made with other classes.
        """
        if state.get("class_names") != list(self.data.names):
            raise UserError(
                f"The checkpoint was trained on other classes than the {len(self.data.names)} in {self.config.images}:"
                " restore the images or choose another --run."
            )
        if state.get("images", self.images) != self.images:
            print("The images differ from those that this run began with. It goes on with the present ones.")
        for name in ("generator", "discriminator", "average", "generator_optimiser", "discriminator_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]


def _setup(fabric: "Fabric", module: nn.Module, rate: float) -> tuple[Any, Any]:
    module = synchronise(module, fabric.device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(module.parameters(), lr=rate, betas=(0.0, 0.99), fused=fabric.device.type != "mps")
    return fabric.setup(module, optimiser)
