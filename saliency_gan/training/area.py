"""Adjusts the share of the photos that a model marks."""

import math
from typing import Any

import numpy as np
import torch

from saliency_gan.saliency.model import PAPER_TEMPERATURE, SaliencyModel
from saliency_gan.saliency.predictor import Predictor
from saliency_gan.training.photos import Photos


@torch.no_grad()
def keep_area(model: SaliencyModel, predictor: Predictor, photos: Photos, area: float) -> None:
    """Shifts a model's logits so that, at threshold 0.5, it marks the same share of some photos as its teacher did.

    Without this, the area changes from round to round. A loss with a Dice or IoU term favours marking uncertain pixels,
    and refinement removes more than it adds.

    Args:
        model: The model; its last bias is changed.
        predictor: Predictor with the unchanged model.
        photos: The photos.
        area: Share of a photo to mark, as a mean over the photos.
    """
    maps = predictor.mark_all([photos[index] for index in range(len(photos))])
    value = float(np.quantile(maps, 1 - area).clip(1e-4, 1 - 1e-4))
    head: Any = model.network.segmentation_head
    scale = 1.0 if model.architecture.outputs == 1 else PAPER_TEMPERATURE
    head[0].bias[-1] -= scale * math.log(value / (1 - value))
