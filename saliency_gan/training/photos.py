"""Unlabelled photos, compressed in memory. Ten thousand of them take half a gigabyte."""

import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from saliency_gan.compute.processes import cores
from saliency_gan.config.self_training import MIN_PHOTOS
from saliency_gan.errors import UserError, reason_of
from saliency_gan.images import ImageArray
from saliency_gan.images.folders import find_images
from saliency_gan.images.reading import read_image
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.saliency.predictor import resize

QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class Photos:
    """Photos that were resized to squares of one size.

    Attributes:
        files: JPEG files of the squares.
        side: Side of the squares in pixels.
        digests: SHA-256 of each original file, which does not depend on `side`; default: SHA-256 of `files`.
    """

    def __init__(self, files: Sequence[bytes], side: int, digests: Sequence[bytes] | None = None) -> None:
        self.files, self.side = list(files), side
        self.digests = [hashlib.sha256(file).digest() for file in files] if digests is None else list(digests)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ImageArray:
        """Decodes one photo: uint8 [side, side, 3]."""
        encoded = np.frombuffer(self.files[index], np.uint8)
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]

    def subset(self, indices: Sequence[int]) -> "Photos":
        """Returns the photos at `indices`."""
        chosen = list(indices)
        return Photos([self.files[index] for index in chosen], self.side, [self.digests[index] for index in chosen])

    @property
    def sha256(self) -> str:
        """Hex digest of all photos in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()


def read_photos(folders: Sequence[Path], side: int, count: int, seed: int) -> Photos:
    """Reads photos in the order of their names, and resizes each to a square. Unreadable ones are printed on stderr.

    Args:
        folders: Folders to search, including subfolders.
        side: Side of the squares in pixels.
        count: Largest number of photos. They are drawn at random, the same number from each folder if it has enough.
        seed: Random seed of the draw.

    Raises:
        UserError: If a folder is missing or holds no image, or fewer than 16 photos can be read.
    """

    def read(path: Path) -> tuple[bytes, bytes] | str:
        try:
            return compress(resize(read_image(path), side)), hashlib.sha256(path.read_bytes()).digest()
        except UserError as error:
            return str(error)
        except OSError as error:  # it vanished after it was decoded
            return f"{path} cannot be read ({reason_of(error)})."

    chosen = _draw([find_images(folder, recursive=True) for folder in folders], count, seed)
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
    return Photos([file for file, _ in photos], side, [digest for _, digest in photos])


def _draw(folders: Sequence[Sequence[Path]], count: int, seed: int) -> list[Path]:
    """Draws at most `count` files from several lists; the result keeps the order of the lists.

    A file in two lists belongs to the first. The lists give one file each in turn, so that a long list does not
    dominate a short one.
    """
    random = random_stream(seed, Stream.PHOTOS)
    turns: dict[str, tuple[int, int, int, Path]] = {}
    for number, files in enumerate(folders):
        new = [file for file in files if os.path.realpath(file) not in turns]
        order = torch.randperm(len(new), generator=random).tolist()
        for turn, index in enumerate(order):
            turns.setdefault(os.path.realpath(new[index]), (turn, number, index, new[index]))
    drawn = sorted(turns.values())[:count]
    return [file for *_, file in sorted(drawn, key=lambda one: one[1:])]


def compress(photo: ImageArray) -> bytes:
    """Encodes a photo, uint8 [H, W, 3], as a JPEG file of high quality."""
    return cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), QUALITY)[1].tobytes()
