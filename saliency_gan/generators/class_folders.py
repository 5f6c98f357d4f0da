"""Training images of stage 0: a folder with one subfolder of images a class, checked and held in memory."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from saliency_gan import images as im
from saliency_gan.errors import UserError


@dataclass(frozen=True)
class ClassFolders:
    """A labelled image set held in memory.

    Attributes:
        images: uint8 [N, side, side, 3].
        labels: int64 [N].
        names: One name a class.
        left_out: One sentence a file or class folder that was left out.
    """

    images: im.ImageArray
    labels: Tensor
    names: tuple[str, ...]
    left_out: tuple[str, ...]

    def sampling_weights(self) -> Tensor:
        """Weight an image so that a class is drawn in proportion to the square root of its size; float64 [N]."""
        counts = torch.bincount(self.labels, minlength=len(self.names)).double()
        return counts.rsqrt()[self.labels]

    def describe(self) -> str:
        """The data check as text: images a class, and what was left out."""
        counts = torch.bincount(self.labels, minlength=len(self.names)).tolist()
        lines = [f"{len(self.labels)} images in {len(self.names)} classes, {min(counts)} to {max(counts)} a class"]
        lines += [f"  {count:5d}  {name}" for count, name in sorted(zip(counts, self.names, strict=True), reverse=True)]
        lines += [f"left out: {sentence}" for sentence in self.left_out]
        return "\n".join(lines)


def load_class_folders(root: Path, side: int, exclude: tuple[str, ...] = (), min_images: int = 2) -> ClassFolders:
    """Reads `root/CLASS/*.jpg` (and other formats), resizes every image to fit `side` and pads it with its edge pixels.

    Args:
        root: Folder that holds one subfolder of images a class.
        side: Side of the squares in pixels.
        exclude: Names of class folders to leave out.
        min_images: Class folders with fewer readable images are left out.

    Raises:
        UserError: If fewer than two class folders hold `min_images` readable images.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: --images needs one that holds a subfolder of images a class.")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    folders = [folder for folder in folders if folder.name not in exclude]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if _is_image(path)]
    with ThreadPoolExecutor() as pool:
        progress = tqdm(pool.map(lambda path: _read(path, side), files), "reading images", len(files), unit="image")
        results = list(zip(files, progress, strict=True))
    left_out = [str(result) for _, result in results if isinstance(result, im.UnreadableImageError)]
    readable = [(path.parent.name, result) for path, result in results if isinstance(result, np.ndarray)]
    counts = Counter(name for name, _ in readable)
    names = tuple(folder.name for folder in folders if counts[folder.name] >= max(1, min_images))
    left_out += [
        f"{folder} has {counts[folder.name]} readable images, fewer than the {min_images} a class needs."
        for folder in folders
        if folder.name not in names
    ]
    if len(names) < 2:
        raise UserError(
            f"{root} has {len(names)} class folders with at least {min_images} readable images, but a class-conditional"
            " generator needs 2 or more: put the images of each class into a subfolder of its own."
        )
    kept = [(image, names.index(name)) for name, image in readable if name in names]
    images, labels = zip(*kept, strict=True)
    return ClassFolders(np.stack(images), torch.tensor(labels), names, tuple(left_out))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in im.IMAGE_SUFFIXES and not path.name.startswith(".")


def _read(path: Path, side: int) -> im.ImageArray | im.UnreadableImageError:
    try:
        return im.square(im.read_image(path), side)
    except im.UnreadableImageError as error:
        return error
