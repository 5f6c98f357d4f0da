"""A convolution of an upsampled map. A frozen generator computes it without upsampling the map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UpsampledConv2d(nn.Conv2d):
    """Nearest upsampling x2, then a 3x3 convolution, [N, inputs, H, W] -> [N, outputs, 2 H, 2 W].

    Each output pixel sees 2 x 2 different pixels of the small map, not 3 x 3. So after the weights are frozen, both
    steps become one transposed convolution of stride 2 with a 4x4 kernel. It needs 4/9 of the multiplications. It also
    avoids the large map of `inputs` channels, which is often the largest map of a generator.

    Its parameters are those of `nn.Conv2d` under the same names.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.kernel: Tensor | None
        self.register_buffer("kernel", None, persistent=False)

    def fold(self) -> None:
        """Computes the transposed kernel from frozen weights; `Generator.freeze` calls it."""
        self.kernel = transposed_kernel(self.weight.detach())

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, inputs, H, W] -> features [N, outputs, 2 H, 2 W]."""
        if self.kernel is None or self.weight.requires_grad:
            return super().forward(F.interpolate(features, scale_factor=2))
        return F.conv_transpose2d(features, self.kernel, self.bias, stride=2, padding=1)


def transposed_kernel(weight: Tensor) -> Tensor:
    """The kernel of the transposed convolution that equals nearest upsampling x2 and a 3x3 convolution.

    Pixel i of the small map becomes pixels 2 i and 2 i + 1 of the large map. Through tap k of the convolution, these
    two contribute to the outputs 2 i + 1 - k and 2 i + 2 - k. In the transposed kernel with its 4 taps, these are taps
    2 - k and 3 - k. Rows and columns work in the same way.

    Args:
        weight: Weight of the convolution, float [outputs, inputs, 3, 3].

    Returns:
        Float [inputs, outputs, 4, 4].
    """
    places = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]]).to(weight)
    return torch.einsum("oikl,ka,lb->ioab", weight, places, places).contiguous(memory_format=torch.channels_last)
