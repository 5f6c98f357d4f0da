"""Training images of an unconditional generator: MNIST, an .npz archive, or any folder of images."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.errors import UserError
from saliency_gan.generators.training_images import TrainingImages, read_squares
from saliency_gan.images import ImageArray
from saliency_gan.images.folders import find_images
from saliency_gan.images.layout import square
from saliency_gan.images.reading import UnreadableImageError, decode_image

MNIST = Path("mnist")
"""This path stands for the 60,000 training digits of MNIST."""
MNIST_FOLDER = Path("data")
"""torchvision keeps its files in the subfolder MNIST/raw."""

LARGEST_ARRAY = 16 * 2**30
"""Largest array in an archive, in bytes. The whole array is read into memory."""

BOMB_SIZE, BOMB_RATIO = 100_000_000, 500
"""An array above BOMB_SIZE bytes with a compression ratio above BOMB_RATIO is refused as a zip bomb."""


def load_unlabelled_images(source: Path, side: int, channels: int) -> TrainingImages:
    """Reads images as one class, resizes each to fit `side` and pads it with its edge pixels.

    Args:
        source: `mnist`, which torchvision downloads and checks; a folder, which is searched recursively; or an .npz
            archive. From an archive, the first array that is uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3] is used. An
            archive may instead hold encoded images one after the other in `blob`: image i is bytes `offset[i]` to
            `offset[i + 1]`.
        side: Side of the squares in pixels.
        channels: 3 for colour, 1 for grey.

    Raises:
        UserError: If the source is missing, damaged or holds no image that can be read.
    """
    left_out: list[str] = []
    readable = []
    for image in _images_of(source, side):
        if isinstance(image, UnreadableImageError):
            left_out.append(str(image))
        else:
            readable.append(_with_channels(square(image, side), channels))
    if not readable:
        raise UserError(f"None of the {len(left_out)} images in {source} can be read; the first: {left_out[0]}")
    return TrainingImages(np.stack(readable), torch.zeros(len(readable), dtype=torch.int64), ("all",), tuple(left_out))


def _images_of(source: Path, side: int) -> Iterable[ImageArray | UnreadableImageError]:
    """Images of any size, uint8 [H, W] or [H, W, 3], or the reason why one cannot be read."""
    if source == MNIST:
        return _mnist_digits()
    if source.suffix == ".npz":
        return _archive_images(source)
    return read_squares(find_images(source, recursive=True), side)


def _mnist_digits() -> ImageArray:
    from torchvision import datasets

    try:
        return datasets.MNIST(MNIST_FOLDER, train=True, download=True).data.numpy()
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"MNIST could not be downloaded ({reason}): try again, put its four *-ubyte.gz files into"
            f" {MNIST_FOLDER / 'MNIST' / 'raw'}, or give an .npz archive of it with --images FILE.npz."
        ) from None


def _archive_images(path: Path) -> Iterable[ImageArray | UnreadableImageError]:
    if not path.exists():
        raise UserError(f"There is no archive {path}: check --images.")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip file, or cut off")
        _refuse_bombs(path)
        with np.load(path, allow_pickle=False) as archive:
            if {"blob", "offset"} <= set(archive.files):
                return _encoded_images(path, archive["blob"], archive["offset"])
            return _first_image_array(path, archive)
    except UserError:
        raise
    except Exception as error:  # numpy and zipfile raise many types for damaged and forged archives
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = "it holds pickled objects, which are never loaded" if "allow_pickle" in reason else reason
        raise UserError(f"{path} cannot be read as an .npz archive of images ({reason}).") from None


def _refuse_bombs(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            tight = entry.file_size > BOMB_SIZE and entry.file_size > BOMB_RATIO * entry.compress_size
            if tight or entry.file_size > LARGEST_ARRAY:
                raise ValueError(f"{entry.filename[:80]} would take {entry.file_size:,} bytes of memory")


def _first_image_array(path: Path, archive: NpzFile) -> ImageArray:
    found = []
    for name in archive.files:
        array = archive[name]
        if not isinstance(array, np.ndarray):
            continue  # a file in the archive that is not an array
        if array.dtype == np.uint8 and array.size and (array.ndim == 3 or array.shape[3:] in ((1,), (3,))):
            return array[..., 0] if array.shape[3:] == (1,) else array
        found.append(f"{name}: {array.dtype} {list(array.shape)}")
    raise UserError(
        f"{path} holds no images ({'; '.join(found) or 'nothing'}): one array has to be uint8 [N, H, W],"
        " [N, H, W, 1] or [N, H, W, 3]."
    )


def _encoded_images(
    path: Path, blob: NDArray[np.uint8], offset: NDArray[np.int64]
) -> Iterable[ImageArray | UnreadableImageError]:
    fits = blob.dtype == np.uint8 and blob.ndim == offset.ndim == 1 and offset.dtype.kind in "iu" and len(offset) > 1
    if not fits or offset[0] < 0 or offset[-1] > len(blob) or (offset[1:] < offset[:-1]).any():
        raise UserError(
            f"{path} has a blob of {blob.dtype} {list(blob.shape)} and an offset of {offset.dtype}"
            f" {list(offset.shape)} that do not fit: offset has to rise from 0 to the length of the uint8 blob."
        )
    return _decoded(path, blob, offset)


def _decoded(
    path: Path, blob: NDArray[np.uint8], offset: NDArray[np.int64]
) -> Iterable[ImageArray | UnreadableImageError]:
    for number in tqdm(range(len(offset) - 1), "decoding images", unit="image"):
        try:
            yield decode_image(blob[offset[number] : offset[number + 1]].tobytes(), f"{path}[{number}]")
        except UnreadableImageError as error:
            yield error


def _with_channels(image: ImageArray, channels: int) -> ImageArray:
    """uint8 [H, W] or [H, W, 3] -> [H, W, channels]."""
    if channels == 1:
        return (image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[:, :, None]  # type: ignore[return-value]
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
