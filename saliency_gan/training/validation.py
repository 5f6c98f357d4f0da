"""Measures a model during training: on held-out pairs, and on a few photos with ground-truth masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from saliency_gan.config import Precision
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.folders import by_name, find_images
from saliency_gan.images.overlap import intersection_over_union
from saliency_gan.images.reading import read_image, read_truth
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.predictor import Predictor, SaliencyMap, stretch
from saliency_gan.training.pairs import Pairs

BATCH = 64


def measure(maps: Sequence[SaliencyMap], masks: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
    """Compares saliency maps with masks of the same sizes.

    Args:
        maps: Float [H, W] in [0, 1].
        masks: Bool [H, W].

    Returns:
        Means over images: iou and accuracy at threshold 0.5, and mae, the mean absolute error.
    """
    rows = []
    for map_, mask in zip(maps, masks, strict=True):
        marked = map_ >= 0.5
        rows.append((intersection_over_union(marked, mask), (marked == mask).mean(), np.abs(map_ - mask).mean()))
    iou, accuracy, mae = np.array(rows, np.float64).mean(axis=0)
    return {"iou": float(iou), "accuracy": float(accuracy), "mae": float(mae)}


def predict_squares(
    model: SaliencyModel, device: torch.device, images: ImageArray, precision: Precision = "fp32"
) -> SaliencyMap:
    """Computes maps, float32 [N, side, side], of squares, uint8 [N, side, side, 3], without flips or scales."""
    predictor = Predictor(model, device, images.shape[1], (1.0,), flip=False, precision=precision)
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([predictor.mark([(image,) for image in part]) for part in batches])


def measure_pairs(
    model: SaliencyModel, device: torch.device, pairs: Pairs, precision: Precision = "fp32"
) -> dict[str, float]:
    """Returns `measure` of a model's maps, for square pairs of one size."""
    return measure(list(predict_squares(model, device, pairs.images, precision)), list(pairs.masks >= 128))


class PhotoCheck:
    """Measures a model in training on photos with ground-truth masks. The model is never trained on these photos.

    Args:
        folder: Folder with images/ and masks/ that hold files of the same names, as in data/samples.
        device: Where to compute.
        precision: fp32, bf16 or auto; see `Predictor`.

    Raises:
        UserError: If a folder is missing or empty, or a photo has no mask of its name and size.
    """

    def __init__(self, folder: Path, device: torch.device, precision: Precision = "fp32") -> None:
        self.device, self.precision = device, precision
        masks = by_name(folder / "masks", find_images(folder / "masks", setting="--photos"))
        self.photos, self.masks = [], []
        for name, path in by_name(folder / "images", find_images(folder / "images", setting="--photos")).items():
            if name not in masks:
                raise UserError(f"{path} has no mask of its name in {folder / 'masks'}: add one or remove the photo.")
            photo, mask = read_image(path), read_truth(masks[name])
            if photo.shape[:2] != mask.shape:
                raise UserError(f"{masks[name]} has another size than {path}: give a mask of the photo's size.")
            self.photos.append(photo)
            self.masks.append(mask)

    def measure(self, model: SaliencyModel) -> dict[str, float]:
        """Measures a model at the photos' original sizes; keys begin with photos_."""
        predictor = Predictor(model, self.device, precision=self.precision)
        maps = predictor.mark_all(self.photos)
        full = [stretch(map_, mask.shape) for map_, mask in zip(maps, self.masks, strict=True)]
        return {f"photos_{name}": value for name, value in measure(full, self.masks).items()}
