"""What a saliency model marks on generated images, which are smaller than photos."""

import torch.nn.functional as F
from torch import Tensor

from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.photo_predictor import STRIDE


def mark_generated(model: SaliencyModel, images: Tensor) -> Tensor:
    """Computes saliency maps of generated images; gradients reach the images.

    The model sees an image at twice its side, or at the model's own resolution if that is smaller. This is enough for
    the model, and several times faster for small images.

    Args:
        model: The model; it is moved to the images' device.
        images: Float [N, 1 or 3, H, W] in [-1, 1].

    Returns:
        Float [N, H, W] in [0, 1].
    """
    large = 2 * max(images.shape[-2:])
    side = min(model.architecture.resolution, -(-large // STRIDE) * STRIDE)
    colour = images.float().expand(-1, 3, -1, -1)
    seen = F.interpolate(colour, (side, side), mode="bilinear", antialias=True)
    maps = model.to(images.device)(seen).float().sigmoid()
    return F.interpolate(maps, images.shape[-2:], mode="bilinear")[:, 0]
