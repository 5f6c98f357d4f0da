"""A tiny exported model, and what it should answer."""

from pathlib import Path

import numpy as np
import torch

from saliency_gan.config import ExportConfig
from saliency_gan.encoders.pretrained import statistics_of
from saliency_gan.saliency.export import export
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.network import SaliencyArchitecture
from tests.saliency.toys import TINY_ARCHITECTURE

STUDENT_ARCHITECTURE = SaliencyArchitecture(
    encoder="tu-tf_efficientnet_lite0", decoder_channels=(16, 8, 8), resolution=32, output_stride=2, encoder_norms=False
)
"""As train-student builds it, but small."""


def save_tiny(folder: Path, architecture: SaliencyArchitecture = TINY_ARCHITECTURE) -> Path:
    """Saves a model with random weights whose maps vary, and returns its file."""
    torch.manual_seed(3)
    model = SaliencyModel(architecture)
    torch.nn.init.normal_(model.network.segmentation_head[0].weight, std=0.5)
    return model.save(folder)


def export_tiny(folder: Path, architecture: SaliencyArchitecture = TINY_ARCHITECTURE) -> Path:
    """Exports such a model into `folder`, which also gets model.safetensors, and returns the exported file."""
    return export(ExportConfig(weights=save_tiny(folder, architecture), output=folder / "saliency.onnx"))


def random_squares(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def truth(weights: Path, squares: np.ndarray) -> np.ndarray:
    """Saliency in float64: the normalisation by its formula, the network by torch, the sigmoid by its formula."""
    model = load_model(weights).double()
    unit = torch.from_numpy(squares.astype(float) / 255).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in statistics_of(model.architecture.encoder))
    with torch.no_grad():
        logits = model.network((unit - mean) / std)[:, 0].numpy()
    return 1 / (1 + np.exp(-logits))
