"""Generators whose directions are known: a tiny BigGAN, and discs on a background that one latent coordinate clears."""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from saliency_gan.generators.base import Generator
from saliency_gan.generators.biggan import BigGAN, BigGANArchitecture
from saliency_gan.generators.sngan import SNGAN, SNGANArchitecture
from saliency_gan.runs.random_streams import random_stream

TINY = BigGANArchitecture(resolution=16, latent_dim=12, num_classes=3, embedding_dim=4, channels=(16, 12, 8))


def tiny_biggan() -> BigGAN:
    generator = BigGAN(TINY, "tiny")
    generator.initialise(random_stream(0))
    return generator.freeze()


def tiny_sngan() -> SNGAN:
    """Grey, without classes."""
    generator = SNGAN(SNGANArchitecture(resolution=16, latent_dim=12, channels=(12, 8, 8), image_channels=1), "digits")
    generator.initialise(random_stream(0))
    return generator.freeze()


def cpu_fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


class DiscWorld(Generator):
    """A textured background, a disc of random place and colour, and a latent coordinate for each way to change them.

    Args:
        clears_to: What the background turns into along coordinate CLEAR: bright or dark.
        sign: Along which sign of that coordinate.
    """

    CLEAR, DARKEN, MOVE_X, MOVE_Y, WHITEN, COLOUR, NOTHING, TEXTURE = range(8)

    def __init__(self, clears_to: str = "bright", sign: int = 1) -> None:
        super().__init__()
        self.name, self.sha256 = "discs", "d" * 64
        self.latent_dim, self.num_classes, self.resolution = 8, 4, 32
        self.class_names = ("red", "green", "blue", "grey")
        self.target = 1.0 if clears_to == "bright" else 0.0
        self.sign = sign

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        ys, xs = torch.meshgrid(*[torch.linspace(0, 1, self.resolution)] * 2, indexing="ij")
        z = latents.float()[:, :, None, None]
        x, y = 0.5 + 0.1 * torch.tanh(z[:, self.MOVE_X]), 0.5 + 0.1 * torch.tanh(z[:, self.MOVE_Y])
        disc = torch.sigmoid((0.25 - ((xs - x) ** 2 + (ys - y) ** 2).sqrt()) * 80)[:, None]
        waves = torch.sin(25 * xs + 10 * torch.tanh(z[:, self.TEXTURE])) * torch.cos(25 * ys)
        background = (0.45 + 0.2 * waves)[:, None].expand(-1, 3, -1, -1)
        background = torch.lerp(background, self._plane(self.target), self._dose(self.sign * z[:, self.CLEAR]))
        stripes = 0.12 * torch.sign(torch.sin(60 * ys))
        colour = torch.cat([torch.eye(3), torch.ones(1, 3) / 2])[classes][:, :, None, None]
        object_ = 0.35 + 0.2 * colour + 0.1 * torch.tanh(z[:, [self.COLOUR]]) + stripes
        image = torch.lerp(background, object_, disc)
        image = torch.lerp(image, self._plane(0.0), self._dose(z[:, self.DARKEN]))
        return torch.lerp(image, self._plane(1.0), self._dose(z[:, self.WHITEN])) * 2 - 1

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        return {}

    @staticmethod
    def _plane(value: float) -> Tensor:
        return torch.full((1, 1, 1, 1), value)

    @staticmethod
    def _dose(z: Tensor) -> Tensor:
        """Hardly anything for z ~ N(0, 1), nearly all after a shift by 6."""
        return torch.sigmoid(1.5 * z - 4.5)[:, None]
