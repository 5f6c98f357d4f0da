"""The contract that every generator fulfils, so that no stage needs to know which family it drives."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from saliency_gan.errors import UserError


class Generator(nn.Module, ABC):
    """A class-conditional image generator G(z, c).

    Attributes:
        name: The generator's name in the zoo, or its weights file's stem.
        sha256: Hex digest of the weights it was loaded from; "" for a generator that was never saved. Stages record it
            so that files of different generators are never mixed.
        latent_dim: d, the length of z.
        num_classes: Number of classes c; 1 for an unconditional generator.
        class_names: One name a class.
        resolution: Side of the square output, in pixels.
        channels: Colour channels of the output: 3, or 1 for grey digits.
    """

    name: str
    sha256: str = ""
    latent_dim: int
    num_classes: int
    class_names: tuple[str, ...]
    resolution: int
    channels: int = 3

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
        """The layers whose channels can be dissected, from the coarsest to the finest, by name."""

    def sample_latents(self, count: int, random: torch.Generator) -> Tensor:
        """Draws z ~ N(0, I), float [count, latent_dim], on the CPU so that a seed means the same on every device."""
        return torch.randn(count, self.latent_dim, generator=random)

    def sample_classes(self, count: int, random: torch.Generator, among: Sequence[int] | None = None) -> Tensor:
        """Draws classes uniformly, int64 [count], from all classes or from those `among`."""
        if among is None:
            return torch.randint(self.num_classes, (count,), generator=random)
        return torch.tensor(list(among))[torch.randint(len(among), (count,), generator=random)]

    def class_indices(self, names: Sequence[str | int] | None) -> list[int] | None:
        """Translates class names or indices into indices; None stays None (all classes).

        A name counts as written, else in any case.

        Raises:
            UserError: If a name or an index is not one of this generator's, or none is given.
        """
        if names is None:
            return None
        if not names:
            raise UserError(
                "An empty list of classes was given: name at least one, or leave classes out for all of them."
            )
        return [self._class_index(str(name).strip()) for name in names]

    def _class_index(self, name: str) -> int:
        if name in self.class_names:
            return self.class_names.index(name)
        lower = [known.lower() for known in self.class_names]
        if name.lower() in lower:
            return lower.index(name.lower())
        if name.isdecimal() and int(name) < self.num_classes:
            return int(name)
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.0)[0]
        raise UserError(
            f"{self.name} has no class {name!r}: give an index below {self.num_classes} or a name;"
            f" did you mean {self.class_names[lower.index(near)]!r}?"
        )

    def freeze(self) -> Self:
        """Switches to evaluation and keeps no gradient for any weight; returns itself."""
        return self.eval().requires_grad_(False)
