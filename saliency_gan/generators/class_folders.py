"""Training images of a class-conditional generator: a folder with one subfolder of images per class."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from saliency_gan.errors import UserError
from saliency_gan.generators.training_images import TrainingImages, read_squares
from saliency_gan.images.folders import find_files
from saliency_gan.images.reading import UnreadableImageError

_WITHOUT_CLASSES = "need --family sngan, or --family eigengan --embedding-dim 0"


def load_class_folders(root: Path, side: int, exclude: tuple[str, ...] = (), min_images: int = 2) -> TrainingImages:
    """Reads `root/CLASS/*.jpg` (and other formats), resizes every image to fit `side` and pads it with its edge pixels.

    Args:
        root: Folder that holds one subfolder of images per class.
        side: Side of the squares in pixels.
        exclude: Names of class folders to leave out.
        min_images: Class folders with fewer readable images are left out.

    Raises:
        UserError: If fewer than two class folders hold `min_images` readable images.
    """
    if not root.is_dir():
        raise UserError(
            f"{root} is no folder: --images needs one that holds a subfolder of images per class. Images"
            f" without classes, MNIST and .npz archives {_WITHOUT_CLASSES}."
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    missing = sorted(set(exclude).difference(folder.name for folder in folders))
    left_out = [f"{root / name} should be left out, but does not exist." for name in missing]
    folders = [folder for folder in folders if folder.name not in exclude]
    files = [path for folder in folders for path in find_files(folder)]
    results = list(zip(files, read_squares(files, side), strict=True))
    left_out += [str(result) for _, result in results if isinstance(result, UnreadableImageError)]
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
            " generator needs 2 or more: put the images of each class into a subfolder of its own. Images without"
            f" classes {_WITHOUT_CLASSES}."
        )
    indices = {name: index for index, name in enumerate(names)}
    kept = [(image, indices[name]) for name, image in readable if name in indices]
    images, labels = zip(*kept, strict=True)
    return TrainingImages(np.stack(images), torch.tensor(labels), names, tuple(left_out))
