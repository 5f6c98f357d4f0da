"""A generator whose masks are known: a grey disc on a ground whose brightness is the first number of z."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from saliency_gan.config import MasksConfig
from saliency_gan.generators.base import Generator
from saliency_gan.images.brightness import Polarity
from saliency_gan.results.directions import BackgroundDirection, Directions


class DiscGenerator(Generator):
    """z = (ground, x, y, radius); class `disc` has an object, `full` fills the image with it, `empty` has none."""

    name = "disc"
    sha256 = "d" * 64
    latent_dim = 4
    num_classes = 3
    class_names = ("disc", "full", "empty")
    resolution = 32

    def object_masks(self, latents: Tensor, classes: Tensor) -> Tensor:
        """The truth, bool [N, 32, 32]."""
        rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        x, y, radius = (part[:, None, None] for part in latents[:, 1:].tanh().unbind(1))
        inside = (columns - 16 - 4 * x) ** 2 + (rows - 16 - 4 * y) ** 2 < (7 + 2 * radius) ** 2
        inside[classes == 1] = True
        inside[classes == 2] = False
        return inside

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        ground = (0.5 * latents[:, 0]).clamp(-1, 1)[:, None, None].expand(-1, 32, 32)
        image = torch.where(self.object_masks(latents, classes), torch.tensor(0.1), ground)
        return image[:, None].repeat(1, 3, 1, 1)

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        return {}


def save_directions(folder: Path, generator: Generator, polarity: Polarity = "bright") -> None:
    """Saves directions along the coordinates of z; h_bg is the first, towards `polarity`."""
    sign = 1 if polarity == "bright" else -1
    matrix = torch.eye(generator.latent_dim)
    owner = {"name": generator.name, "sha256": generator.sha256}
    Directions(matrix, sign * matrix[0].clone(), BackgroundDirection(0, sign, 12.0, polarity), owner).save(folder)


def elsewhere(config: MasksConfig, name: str) -> MasksConfig:
    """The same settings in another run folder, with the same directions."""
    return replace(config, run=config.run.parent / name, directions=config.run / "discover")
