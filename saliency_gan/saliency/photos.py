"""A folder of unlabelled photos, in memory."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray, find_images, read_image
from saliency_gan.processes import cores
from saliency_gan.runs import random_stream
from saliency_gan.saliency.predictor import resize
from saliency_gan.saliency.streams import STREAM_PHOTOS

MIN_PHOTOS = 16


def read_photos(folder: Path, side: int, count: int, seed: int) -> ImageArray:
    """Reads photos and squeezes each into a square, in the order of their names; unreadable ones are named on stderr.

    Args:
        folder: Searched with its subfolders.
        side: Side of the squares in pixels.
        count: Photos at the most, drawn at random.
        seed: Seed of that draw.

    Returns:
        uint8 [N, side, side, 3].

    Raises:
        UserError: If fewer than 16 can be read.
    """

    def read(path: Path) -> ImageArray | str:
        try:
            return resize(read_image(path), side)
        except UserError as error:
            return str(error)

    files = find_images(folder, recursive=True)
    order = torch.randperm(len(files), generator=random_stream(seed, STREAM_PHOTOS)).tolist()
    chosen = [files[index] for index in sorted(order[:count])]
    photos = []
    with ThreadPoolExecutor(cores()) as pool:
        for photo in tqdm(pool.map(read, chosen), "reading photos", len(chosen), unit="photo"):
            if isinstance(photo, str):
                tqdm.write(f"saliency-gan: {photo}", file=sys.stderr)
            else:
                photos.append(photo)
    if len(photos) < MIN_PHOTOS:
        raise UserError(f"{folder} holds {len(photos)} readable photos, but adapting needs {MIN_PHOTOS} or more.")
    return np.stack(photos)
