"""Computes the saliency map of a photo with any network for square images. This module does not import torch."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saliency_gan.config.checks import LARGEST_RESOLUTION
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.reading import read_image, to_rgb

SaliencyMap = NDArray[np.float32]
STRIDE = 32
"""Networks of any depth accept sides that are multiples of this."""
AT_ONCE = 32
"""Number of photos in a forward pass of `predict_batch` and `mark_all`."""


class Network(Protocol):
    """A network that computes saliency, with torch or onnxruntime.

    Attributes:
        resolution: Side in pixels of the squares that the network was trained on.
    """

    resolution: int

    def maps(self, squares: ImageArray) -> SaliencyMap:
        """Computes saliency in [0, 1], float32 [N, H, W], of uint8 [N, H, W, 3]; H and W are multiples of STRIDE."""
        ...


class PhotoPredictor:
    """Computes saliency maps of photos of any size and shape.

    A photo is resized to a square of the network's resolution, as in the field's benchmarks. The network computes a map
    of it, and of the mirrored photo, at every scale. The mean of these views is resized back to the photo's size.

    Args:
        network: The network that computes the maps of squares.
        resolution: Side in pixels of the network's input, 32 or more; None takes the resolution that it was trained on.
        scales: Factors of the resolution. Each side is rounded to a multiple of 32 pixels, and used only once.
        flip: Also use the mirrored photo.

    Raises:
        UserError: If resolution is below 32 px, a scale is not positive, or a square would be larger than 4096 px.
    """

    def __init__(
        self, network: Network, resolution: int | None = None, scales: Sequence[float] = (1.0,), flip: bool = True
    ) -> None:
        self.network = network
        self.resolution = network.resolution if resolution is None else resolution
        if resolution is not None and resolution < STRIDE:
            raise UserError(f"resolution is {resolution}, but has to be {STRIDE} px or more.")
        if not scales or not all(0 < scale < math.inf for scale in scales):
            raise UserError(f"scales is {list(scales)}, but has to hold factors above 0, for example 1.0 and 1.5.")
        sides = (max(STRIDE, round(self.resolution * scale / STRIDE) * STRIDE) for scale in scales)
        self.sides = tuple(dict.fromkeys(sides))
        if max(self.sides) > LARGEST_RESOLUTION:
            raise UserError(
                f"Resolution {self.resolution} times {max(scales)} is {max(self.sides)} px, but has to be at most"
                f" {LARGEST_RESOLUTION}."
            )
        self.flip = flip

    def predict(self, image: ImageArray | Image.Image | Path | str) -> SaliencyMap:
        """Computes the saliency map of one photo.

        Args:
            image: RGB as uint8 [H, W, 3], a Pillow image of any mode, or the path of an image file.

        Returns:
            float32 [H, W] in [0, 1]: the probability that a pixel belongs to a salient object. The EXIF orientation of
            a file or a Pillow image is applied, so the map is upright.

        Raises:
            UserError: If `image` has another type, or cannot be read.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[ImageArray | Image.Image | Path | str]) -> list[SaliencyMap]:
        """Computes the saliency maps of several photos, see `predict`, AT_ONCE at a time.

        The photos may differ in size. Photos of the same size may also be one array, uint8 [N, H, W, 3].

        Raises:
            UserError: If a photo cannot be read, or `images` is one path and not a list of photos.
        """
        if isinstance(images, str | Path):
            raise UserError(f"predict_batch takes a list of photos: give [{str(images)!r}], or use predict.")
        found = []
        for part in _parts(len(images)):
            arrays = [_as_array(images[number]) for number in part]
            maps = self.mark([self.squeeze(array) for array in arrays])
            found += [stretch(map_, array.shape[:2]) for map_, array in zip(maps, arrays, strict=True)]
        return found

    def squeeze(self, image: ImageArray) -> tuple[ImageArray, ...]:
        """Resizes a photo, uint8 [H, W, 3], to one square per scale."""
        return tuple(resize(image, side) for side in self.sides)

    def mark(self, photos: Sequence[tuple[ImageArray, ...]]) -> SaliencyMap:
        """Computes maps of the results of `squeeze`, float32 [N, side, side] in [0, 1] at the largest scale."""
        return self.views(photos).mean(axis=0)

    def mark_all(self, photos: Sequence[ImageArray]) -> SaliencyMap:
        """Computes maps of any number of photos, AT_ONCE at a time, so that the memory does not grow with the number.

        Args:
            photos: uint8 [H, W, 3] each; the sizes may differ.

        Returns:
            float32 [N, side, side] in [0, 1], with the side of the largest scale.
        """
        none = np.zeros((0, max(self.sides), max(self.sides)), np.float32)
        parts = _parts(len(photos))
        return np.concatenate([none, *(self.mark([self.squeeze(photos[number]) for number in part]) for part in parts)])

    def views(self, photos: Sequence[tuple[ImageArray, ...]]) -> SaliencyMap:
        """Computes one map per scale and flip of the results of `squeeze`, float32 [views, N, side, side].

        All maps have the size of the largest scale.
        """
        side = max(self.sides)
        views = []
        for each_photo in zip(*photos, strict=True):
            squares = np.stack(each_photo)
            if self.flip:
                squares = np.concatenate([squares, squares[:, :, ::-1]])
            maps = self.network.maps(squares)
            seen = [maps[: len(photos)], maps[len(photos) :, :, ::-1]] if self.flip else [maps]
            views += seen if squares.shape[1] == side else [_stretch_all(maps, side) for maps in seen]
        return np.stack(views)


def _parts(count: int) -> Iterator[range]:
    numbers = range(count)
    return (numbers[start : start + AT_ONCE] for start in numbers[::AT_ONCE])


def stretch(saliency: SaliencyMap, size: tuple[int, ...]) -> SaliencyMap:
    """Resizes a map bilinearly to (height, width); the result stays in [0, 1]."""
    height, width = size
    return cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _stretch_all(maps: SaliencyMap, side: int) -> SaliencyMap:
    return np.stack([stretch(map_, (side, side)) for map_ in maps])


def resize(image: ImageArray, side: int) -> ImageArray:
    """Resizes an image, uint8 [H, W, 3], to a square. A reduced image is an average over all pixels."""
    height, width = image.shape[:2]
    if max(height, width) > 2 * side > 2 * min(height, width):  # bilinear interpolation would skip most pixels
        image = cv2.resize(image, (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    method = cv2.INTER_AREA if min(height, width) >= side else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=method)  # type: ignore[return-value]


def _as_array(image: ImageArray | Image.Image | Path | str) -> ImageArray:
    if isinstance(image, Path | str):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size
    ):
        return image
    given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"An image has to be RGB as uint8 [H, W, 3], a Pillow image or a path, not {given}.")
