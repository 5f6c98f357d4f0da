"""From a photo to its saliency map, by whatever computes the maps of squares; needs numpy and OpenCV only."""

from collections.abc import Sequence
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


class Network(Protocol):
    """What computes saliency: torch, or onnxruntime.

    Attributes:
        resolution: Side in pixels of the squares that it was trained on.
    """

    resolution: int

    def maps(self, squares: ImageArray) -> SaliencyMap:
        """Computes saliency in [0, 1], float32 [N, H, W], of uint8 [N, H, W, 3]; H and W are multiples of STRIDE."""
        ...


class PhotoPredictor:
    """Marks what stands out in photos of any size and shape.

    A photo is squeezed into a square of the network's resolution, as benchmarks of the field do, marked once for every
    scale and once more mirrored; the mean of these views is stretched back to the photo's size.

    Args:
        network: What marks the squares.
        resolution: Side in pixels of the square that the network sees; None takes the one it was trained on.
        scales: Factors of the resolution at which a photo is seen; each gives a multiple of 32 pixels, once.
        flip: Look at the mirrored photo too.

    Raises:
        UserError: If resolution or a scale is not positive, or a square would be larger than 4096 px.
    """

    def __init__(
        self, network: Network, resolution: int | None = None, scales: Sequence[float] = (1.0,), flip: bool = True
    ) -> None:
        self.network = network
        self.resolution = network.resolution if resolution is None else resolution
        if self.resolution < 1:
            raise UserError(f"resolution is {resolution}, but has to be 1 px or more.")
        if not scales or min(scales) <= 0:
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
            float32 [H, W] in [0, 1]: how likely each pixel belongs to what stands out.

        Raises:
            UserError: If it is none of these, or the file cannot be read.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[ImageArray | Image.Image | Path | str]) -> list[SaliencyMap]:
        """Computes the saliency maps of several photos, which may differ in size, at once; as `predict`.

        Photos of one size may be an array, uint8 [N, H, W, 3].

        Raises:
            UserError: If a photo cannot be read, or this is one path rather than a list of photos.
        """
        if isinstance(images, str | Path):
            raise UserError(f"predict_batch takes a list of photos: give [{str(images)!r}], or use predict.")
        if not len(images):
            return []
        arrays = [_as_array(image) for image in images]
        maps = self.mark([self.squeeze(array) for array in arrays])
        return [stretch(map_, array.shape[:2]) for map_, array in zip(maps, arrays, strict=True)]

    def squeeze(self, image: ImageArray) -> tuple[ImageArray, ...]:
        """Resizes a photo, uint8 [H, W, 3], to one square a scale."""
        return tuple(resize(image, side) for side in self.sides)

    def mark(self, photos: Sequence[tuple[ImageArray, ...]]) -> SaliencyMap:
        """Computes maps of squeezed photos, float32 [N, side, side] in [0, 1] at the largest scale."""
        return self.views(photos).mean(axis=0)

    def views(self, photos: Sequence[tuple[ImageArray, ...]]) -> SaliencyMap:
        """Computes a map a scale and flip of squeezed photos, float32 [views, N, side, side] at the largest scale."""
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


def stretch(saliency: SaliencyMap, size: tuple[int, ...]) -> SaliencyMap:
    """Resizes a map bilinearly to (height, width); the result stays in [0, 1]."""
    height, width = size
    return cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _stretch_all(maps: SaliencyMap, side: int) -> SaliencyMap:
    return np.stack([stretch(map_, (side, side)) for map_ in maps])


def resize(image: ImageArray, side: int) -> ImageArray:
    """Squeezes an image, uint8 [H, W, 3], into a square; every pixel counts where it shrinks."""
    method = cv2.INTER_AREA if min(image.shape[:2]) >= side else cv2.INTER_LINEAR
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
