"""A DCGAN (Radford et al. 2016) as the generator of every stage, from the state dict that PyTorch's tutorial saves.

    saliency-gan discover --generator examples/dcgan.py:load --weights netG.pth --run runs/dcgan
    saliency-gan masks --generator examples/dcgan.py:load --weights netG.pth --run runs/dcgan

Channels and resolution may differ from the tutorial's; the weights tell them.
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from saliency_gan.generators.base import Generator


class DCGAN(Generator):
    """Transposed convolutions from z at 1 px to 4, 8, 16, ... px, batch norm and ReLU between them, tanh at the end.

    Args:
        widths: Length of z, channels at 4 px, 8 px, ..., and colour channels, as the weights tell them.
    """

    num_classes = 1
    class_names = ("image",)

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.latent_dim, self.channels = widths[0], widths[-1]
        self.resolution = 4 * 2 ** (len(widths) - 2)
        self.main = nn.Sequential()
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            stride, padding = (2, 1) if index else (1, 0)
            self.main.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
            if index < len(widths) - 2:
                self.main.extend([nn.BatchNorm2d(outputs), nn.ReLU()])

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        """Draws images in [-1, 1]; a DCGAN has no classes."""
        return torch.tanh(self.main(latents[:, :, None, None]).float())

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        """What every ReLU puts out, 4 px first."""
        return {f"relu{index}": layer for index, layer in enumerate(self.main) if isinstance(layer, nn.ReLU)}


def load(weights: Path) -> DCGAN:
    """Builds the DCGAN that a state dict with the names main.0.weight, main.1.weight, ... belongs to."""
    state = torch.load(weights, map_location="cpu", weights_only=True)
    kernels = [tensor for tensor in state.values() if tensor.ndim == 4]
    generator = DCGAN([kernel.shape[0] for kernel in kernels] + [kernels[-1].shape[1]])
    generator.load_state_dict(state)
    return generator
