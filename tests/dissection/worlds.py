"""A generator whose units are known: unit 3 paints a white square, the others do nothing or paint stripes."""

import torch
from torch import Tensor, nn

from saliency_gan.generators.base import Generator

SQUARE = (slice(4, 12), slice(8, 16))
"""Rows and columns of the square."""


class SquareWorld(Generator):
    """z[0] > 0 switches the square on; every unit is a plane of 16 x 16 that is added to black."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.sha256 = "squares", "e" * 64
        self.latent_dim, self.num_classes, self.resolution = 6, 1, 16
        self.class_names = ("all",)
        self.painter = nn.Identity()

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        units = torch.zeros(len(latents), 6, 16, 16)
        units[:, 3, *SQUARE] = (latents[:, 0, None, None] > 0).float() * 2
        units[:, 4, ::2] = 0.1 * latents[:, 1, None, None].abs()
        units[:, 5] = latents[:, 2, None, None]  # seen by nobody
        units = self.painter(units)
        return (units[:, 3] + units[:, 4] - 1)[:, None].expand(-1, 3, -1, -1).clamp(-1, 1)

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        return {"painter": self.painter}
