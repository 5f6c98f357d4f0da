"""A run folder as `discover` leaves it, without any training."""

from pathlib import Path

import torch

from saliency_gan.directions.gallery import write_index
from saliency_gan.generators.zoo import load_generator, save_generator
from saliency_gan.results.directions import BackgroundDirection, Directions
from saliency_gan.runs.random_streams import random_stream
from tests.directions.worlds import tiny_biggan

K = 6


def finished_run(folder: Path, deformator: str = "orthonormal") -> Path:
    """Makes `folder/run` with K directions of the tiny BigGAN, which is saved beside it."""
    weights = folder / "tiny.safetensors"
    save_generator(tiny_biggan(), weights)
    generator = load_generator(str(weights))
    matrix, _ = torch.linalg.qr(torch.randn(generator.latent_dim, K, generator=random_stream(9)))
    scores = [
        {"index": index, "rank": rank, "sign": 1, "shift": 6.0, "polarity": "bright", "score": 0.5, "parts": {}}
        for rank, index in enumerate((4, 0, 5, 2, 1, 3), start=1)
    ]
    identity = {"name": generator.name, "sha256": generator.sha256}
    config = {"generator": str(weights), "weights": None, "truncation": 1.0, "classes": None, "deformator": deformator}
    run = folder / "run"
    background = BackgroundDirection(4, -1, 6.0, "bright")
    Directions(matrix, -matrix[:, 4], background, identity, scores, {}, config).save(run / "discover")
    write_index(run / "discover" / "gallery", scores, {})
    return run
