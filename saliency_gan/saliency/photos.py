"""Unlabelled photos in memory, compressed, so that ten thousand of them take half a gigabyte."""

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
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
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class Photos:
    """Photos that were squeezed into squares of one size.

    Attributes:
        files: JPEG files of the squares, a 1-d array of bytes objects.
        side: Side of the squares in pixels.
    """

    def __init__(self, files: Sequence[bytes], side: int) -> None:
        self.files, self.side = list(files), side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ImageArray:
        """Decodes one photo: uint8 [side, side, 3]."""
        encoded = np.frombuffer(self.files[index], np.uint8)
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]

    def subset(self, indices: Sequence[int]) -> "Photos":
        """The photos at `indices`."""
        return Photos([self.files[index] for index in indices], self.side)

    @property
    def sha256(self) -> str:
        """Hex digest of all photos in their order."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(file).digest())
        return digest.hexdigest()


def read_photos(folders: Sequence[Path], side: int, count: int, seed: int) -> Photos:
    """Reads photos and squeezes each into a square, in the order of their names; unreadable ones are named on stderr.

    Args:
        folders: Each is searched with its subfolders.
        side: Side of the squares in pixels.
        count: Most photos to read, drawn at random from all folders.
        seed: Seed of that draw.

    Raises:
        UserError: If a folder is missing or holds no image, or fewer than 16 photos can be read.
    """

    def read(path: Path) -> bytes | str:
        try:
            return compress(resize(read_image(path), side))
        except UserError as error:
            return str(error)

    files = list(dict.fromkeys(file for folder in folders for file in find_images(folder, recursive=True)))
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
        named = ", ".join(map(str, folders))
        raise UserError(f"{named} holds {len(photos)} readable photos, but this needs {MIN_PHOTOS} or more.")
    return Photos(photos, side)


def compress(photo: ImageArray) -> bytes:
    """A photo, uint8 [H, W, 3], as a JPEG file of high quality."""
    return cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), QUALITY)[1].tobytes()
