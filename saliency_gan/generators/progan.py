"""Progressive GAN (Karras et al. 2018) from the PyTorch conversion of its CelebA-HQ network, unconditional, 1024 px.

The conversion is the file `100_celeb_hq_network-snapshot-010403.pth` of github.com/ptrblck/prog_gans_pytorch_inference,
which Voynov & Babenko (2020) also searched for directions. It stores a scale and a bias beside every convolution. Both
are folded into the convolution when the file is loaded; this does not change the images. NVIDIA made the network
available for non-commercial use, under CC BY-NC 4.0.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliency_gan.generators.base import Generator
from saliency_gan.generators.checkpoints import read_checkpoint
from saliency_gan.generators.upsampling import UpsampledConv2d
from saliency_gan.storage.files import sha256_of

PUBLIC_FILE = "100_celeb_hq_network-snapshot-010403.pth"
"""`git hash-object` prints 754ddb07be656eb799e59cdb4610218fc8cf0569 for the published file."""


@dataclass(frozen=True)
class ProGANArchitecture:
    """The sizes of a Progressive GAN generator.

    Attributes:
        latent_dim: d.
        channels: Channels at 4, 8, 16, ... px.
    """

    latent_dim: int = 512
    channels: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64, 32, 16)

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every convolution but the last: two at 4 px and two after every doubling."""
        steps = pairwise((self.latent_dim, *self.channels))
        return [pair for inputs, outputs in steps for pair in ((inputs, outputs), (outputs, outputs))]


CELEBAHQ_1024 = ProGANArchitecture()


class ProGAN(Generator):
    """A Progressive GAN that is fully grown. Because of pixel norm, the length of z has no effect.

    Args:
        architecture: Sizes of everything.
        name: Name in the zoo.
    """

    num_classes = 1

    def __init__(self, architecture: ProGANArchitecture, name: str) -> None:
        super().__init__()
        self.name = name
        self.latent_dim = architecture.latent_dim
        self.class_names = ("face",)
        self.resolution = architecture.resolution
        self.layers = nn.ModuleList(
            ProGANLayer(inputs, outputs, is_first=index == 0, upsamples=index > 0 and index % 2 == 0)
            for index, (inputs, outputs) in enumerate(architecture.layers)
        )
        self.to_rgb = nn.Conv2d(architecture.channels[-1], self.channels, 1)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images; see `Generator.forward`. The last layer is unbounded, so its values are clipped."""
        features = latents[:, :, None, None]
        for layer in self.layers:
            features = layer(features)
        return self.to_rgb(pixel_norm(features)).float().clamp(-1, 1)

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        """layer1 and layer2 (4 px), layer3 and layer4 (8 px), ...: the names in GAN Dissection (Bau et al. 2019)."""
        return {f"layer{number}": layer for number, layer in enumerate(self.layers, start=1)}


class ProGANLayer(nn.Module):
    """Pixel norm, optional upsampling x2, convolution, leaky ReLU; the first layer turns z into 4 x 4 px."""

    def __init__(self, inputs: int, outputs: int, is_first: bool, upsamples: bool) -> None:
        super().__init__()
        if upsamples:
            self.conv: nn.Conv2d = UpsampledConv2d(inputs, outputs)
        else:
            self.conv = nn.Conv2d(inputs, outputs, kernel_size=4 if is_first else 3, padding=3 if is_first else 1)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, inputs, H, W] -> [N, outputs, H', W']: 4 x 4 from 1 x 1, else H x W or twice that."""
        return F.leaky_relu(self.conv(pixel_norm(features)), 0.2)


def pixel_norm(features: Tensor) -> Tensor:
    """Divides the channels of every pixel by their root mean square (Karras et al. 2018, section 4.2)."""
    return features * torch.rsqrt(features.square().mean(dim=1, keepdim=True) + 1e-8)


def load_progan(name: str, weights: Path, architecture: ProGANArchitecture = CELEBAHQ_1024) -> ProGAN:
    """Loads a file in the format of the public conversion.

    Args:
        name: Name in the zoo.
        weights: The file, or the folder that holds it as PUBLIC_FILE.
        architecture: Architecture that the file has to match.

    Raises:
        UserError: If the file is missing or damaged, or any tensor is missing, unknown or of another shape.
    """
    path = weights / PUBLIC_FILE if weights.is_dir() else weights
    state = read_checkpoint(path, public_shapes(architecture), name)
    with torch.device("meta"):
        generator = ProGAN(architecture, name)
    names = {f"layers.{index}.conv": f"features.{index}" for index in range(len(generator.layers))}
    tensors = {}
    for ours, theirs in (names | {"to_rgb": "output"}).items():
        tensors[f"{ours}.weight"] = state[f"{theirs}.conv.weight"].float() * state[f"{theirs}.wscale.scale"]
        tensors[f"{ours}.bias"] = state[f"{theirs}.wscale.b"].float()
    generator.load_state_dict(tensors, assign=True)
    generator.sha256 = sha256_of(path)
    return generator


def public_shapes(architecture: ProGANArchitecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a file of the public conversion."""
    kernels = {
        f"features.{index}": (outputs, inputs, *((3, 3) if index else (4, 4)))
        for index, (inputs, outputs) in enumerate(architecture.layers)
    }
    kernels["output"] = (ProGAN.channels, architecture.channels[-1], 1, 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for module, kernel in kernels.items():
        shapes |= {f"{module}.conv.weight": kernel, f"{module}.wscale.scale": (1,), f"{module}.wscale.b": kernel[:1]}
    return shapes
