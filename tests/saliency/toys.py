"""A toy world in which the right answer is known: a bright disc on dark noise."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from saliency_gan.images.writing import write_image
from saliency_gan.masks.shards import encode_pair, shard_name, write_shard
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.storage.files import sha256_of, write_json

TINY_ARCHITECTURE = SaliencyArchitecture(decoder_channels=(16, 8, 8), resolution=32)
TINY: dict[str, Any] = {
    "decoder_channels": (16, 8, 8),
    "resolution": 32,
    "batch": 8,
    "workers": 0,
    "precision": "fp32",
    "device": "cpu",
}
"""Settings of train-saliency that take milliseconds a step."""

FAINT = (120, 110, 100)


def disc(seed: int, side: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image, uint8 [side, side, 3], and its mask, uint8 [side, side] of 0 and 255."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    centre = rng.integers(side * 3 // 8, side * 5 // 8, 2).tolist()
    cv2.circle(mask, centre, int(rng.integers(side // 5, side // 3)), 255, -1)
    image = rng.integers(0, 60, (side, side, 3), dtype=np.uint8)
    image[mask > 0] = rng.integers(170, 230, 3, dtype=np.uint8)
    return image, mask


def discs(count: int, first: int = 0, side: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images, uint8 [count, side, side, 3], and masks, uint8 [count, side, side]."""
    pairs = [disc(first + index, side) for index in range(count)]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def write_shards(folder: Path, count: int, per_shard: int = 32, side: int = 32) -> Path:
    """Writes shards of discs as stage 2 would, and returns their folder."""
    shards = []
    for first in range(0, count, per_shard):
        pairs = [disc(index, side) for index in range(first, min(count, first + per_shard))]
        path = folder / shard_name(len(shards))
        write_shard(path, first, [encode_pair(image, mask, {"class": "disc"}, "png") for image, mask in pairs])
        shards.append({"file": path.name, "pairs": len(pairs), "sha256": sha256_of(path)})
    manifest = {
        "generator": {"name": "toy", "sha256": "0" * 64},
        "directions_sha256": "1" * 64,
        "pairs": count,
        "resolution": side,
        "shards": shards,
        "config": {},
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def write_photos(folder: Path, count: int, first: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    """Writes photos of discs and their masks into folder/images and folder/masks, and returns folder."""
    for index in range(first, first + count):
        image, mask = (cv2.resize(part, size[::-1], interpolation=cv2.INTER_NEAREST) for part in disc(index))
        write_image(folder / "images" / f"photo-{index}.png", image)
        write_image(folder / "masks" / f"photo-{index}.png", mask)
    return folder


def write_faint_photos(folder: Path, count: int, first: int = 0, side: int = 64) -> Path:
    """As `write_photos`, but with discs so faint that a model of bright discs is unsure of their outline."""
    for index in range(first, first + count):
        _, mask = disc(index)
        mask = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
        rng = np.random.default_rng(index)
        image = rng.integers(0, 30, (side, side, 3), dtype=np.uint8)
        image[mask > 0] += np.array(FAINT, np.uint8)
        write_image(folder / "images" / f"faint-{index}.png", image)
        write_image(folder / "masks" / f"faint-{index}.png", mask)
    return folder
