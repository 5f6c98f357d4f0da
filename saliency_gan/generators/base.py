"""The interface that every generator implements. So a stage does not need to know the generator's family."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from saliency_gan.errors import UserError
from saliency_gan.generators.classes import class_indices
from saliency_gan.generators.upsampling import UpsampledConv2d
from saliency_gan.runs.random_streams import random_stream


class Generator(nn.Module, ABC):
    """A class-conditional image generator G(z, c).

    Attributes:
        name: The generator's name in the zoo, or its weights file's stem.
        sha256: Hex digest of the weights it was loaded from; "" for a generator that was never saved. Stages record it
            so that files of different generators are never mixed.
        intact_sha256: `sha256` before units were ablated, see `units`; "" if no unit was ablated.
        latent_dim: d, the length of z.
        num_classes: Number of classes c; 1 for an unconditional generator.
        class_names: One name per class.
        resolution: Side of the square output, in pixels.
        channels: Colour channels of the output: 3, or 1 for grey digits.
    """

    name: str
    sha256: str = ""
    intact_sha256: str = ""
    latent_dim: int
    num_classes: int
    class_names: tuple[str, ...]
    resolution: int
    channels: int = 3

    def __call__(self, latents: Tensor, classes: Tensor | Sequence[int | str]) -> Tensor:
        """Draws images, see `forward`. `classes` may also be a list of indices and names.

        Raises:
            UserError: If the number of classes and the number of latents differ, or the generator does not have one of
                the classes. The values of classes on a GPU are not checked, because the check would wait for the GPU.
        """
        if not isinstance(classes, Tensor):
            classes = torch.tensor([self._index_of(one) for one in classes], device=latents.device)
        if len(classes) != len(latents):
            raise UserError(f"There are {len(classes)} classes for {len(latents)} latents: give one for each.")
        unknown = (classes < 0) | (classes >= self.num_classes) if classes.device.type == "cpu" else None
        if unknown is not None and unknown.any():
            asked = classes[unknown][0].item()
            raise UserError(f"{self.name} has no class {asked}: its classes are 0 to {self.num_classes - 1}.")
        images: Tensor = super().__call__(latents, classes)
        return images

    def _index_of(self, asked: int | str) -> int:
        return asked if isinstance(asked, int) else class_indices([asked], self.class_names, self.name)[0]

    @abstractmethod
    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images.

        Args:
            latents: z, float [N, latent_dim].
            classes: c, int64 [N], each in [0, num_classes).

        Returns:
            Images, float [N, channels, resolution, resolution] in [-1, 1].
        """

    @property
    @abstractmethod
    def feature_layers(self) -> dict[str, nn.Module]:
        """Name -> layer whose channels can be dissected, from the coarsest layer to the finest.

        A layer returns float [N, units, h, w]. No later operation may change this output in place.
        """

    @property
    def own_directions(self) -> dict[str, Tensor]:
        """Name -> built-in direction of the family, a unit vector, float [latent_dim]; empty in most families."""
        return {}

    def sample_latents(self, count: int, random: torch.Generator) -> Tensor:
        """Draws z ~ N(0, I), float [count, latent_dim], on the CPU, so a seed gives the same z on every device."""
        return torch.randn(count, self.latent_dim, generator=random)

    def sample_classes(self, count: int, random: torch.Generator, among: Sequence[int] | None = None) -> Tensor:
        """Draws classes uniformly, int64 [count], from all classes or only from `among`."""
        if among is None:
            return torch.randint(self.num_classes, (count,), generator=random)
        return torch.tensor(list(among))[torch.randint(len(among), (count,), generator=random)]

    def sample(self, count: int, random: torch.Generator, among: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Draws z with `sample_latents`, then c with `sample_classes`, from one random stream."""
        return self.sample_latents(count, random), self.sample_classes(count, random, among)

    def sample_each(
        self, numbers: Sequence[int], key: tuple[int, int], among: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws one z and one c for each number from its own random stream. A number is the same image in every batch.

        Args:
            numbers: Numbers of the images.
            key: Seed and purpose of the random streams; the number is added to the key.
            among: Classes to draw from; None for all.

        Returns:
            z, float [N, latent_dim], and c, int64 [N].
        """
        drawn = [self.sample(1, random_stream(*key, number), among) for number in numbers]
        latents, classes = zip(*drawn, strict=True)
        return torch.cat(latents), torch.cat(classes)

    def class_indices(self, asked: Sequence[str | int] | None) -> list[int] | None:
        """Translates class names, indices and ranges into indices, see `classes`; None stays None (all classes).

        Raises:
            UserError: If `asked` is empty, an item fits no class, or a name fits several classes.
        """
        return None if asked is None else class_indices(asked, self.class_names, self.name)

    def is_described_by(self, sha256: str) -> bool:
        """Whether results for the generator with this sha256 are also valid for this generator.

        They are valid for the same generator, also after units were ablated, because the latents keep their meaning.
        Results for an ablated generator are not valid for the intact one.
        """
        return sha256 in (self.sha256, self.intact_sha256 or self.sha256)

    def freeze(self) -> Self:
        """Switches to evaluation mode, turns off the gradients of all weights, and returns itself.

        Weights must not change after that, because values that depend only on the weights are computed here. The
        weights of convolutions are laid out channels last, which is faster.
        """
        for module in self.modules():
            if isinstance(module, UpsampledConv2d):
                module.fold()
        for weight in (*self.parameters(), *self.buffers()):
            if weight.ndim == 4:  # Module.to(memory_format=...) fails if there are weights of five dimensions
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return self.eval().requires_grad_(False)
