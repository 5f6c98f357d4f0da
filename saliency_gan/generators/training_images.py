"""Training images of stage 0: images of one size in memory, each with a class."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_gan.compute.processes import cores
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import square
from saliency_gan.images.reading import UnreadableImageError, read_image


@dataclass(frozen=True)
class TrainingImages:
    """An image set held in memory.

    Attributes:
        images: uint8 [N, side, side, C].
        labels: int64 [N]; zeros where there is only one class.
        names: One name per class.
        left_out: One sentence for each file or class folder that was left out.
    """

    images: ImageArray
    labels: Tensor
    names: tuple[str, ...]
    left_out: tuple[str, ...]

    def sampling_weights(self) -> Tensor:
        """Weight of each image, float64 [N]. A class is drawn in proportion to the square root of its size."""
        counts = torch.bincount(self.labels, minlength=len(self.names)).double()
        return counts.rsqrt()[self.labels]

    def describe(self) -> str:
        """Returns the data check as text: number of images, images per class, and what was left out."""
        lines = [f"{len(self.labels)} images"]
        if len(self.names) > 1:
            counts = torch.bincount(self.labels, minlength=len(self.names)).tolist()
            lines[0] += f" in {len(self.names)} classes, {min(counts)} to {max(counts)} a class"
            ordered = sorted(zip(counts, self.names, strict=True), reverse=True)
            lines += [f"  {count:5d}  {name}" for count, name in ordered]
        lines += [f"left out: {sentence}" for sentence in self.left_out]
        return "\n".join(lines)


def read_squares(files: Sequence[Path], side: int) -> Iterable[ImageArray | UnreadableImageError]:
    """Reads every file as uint8 [side, side, 3], resized to fit and padded with its edge pixels.

    A file that cannot be used gives its error instead.
    """

    def read(path: Path) -> ImageArray | UnreadableImageError:
        try:
            return square(read_image(path), side)
        except UnreadableImageError as error:
            return UnreadableImageError(str(error))  # the caught error keeps all that was read in its traceback

    with ThreadPoolExecutor(cores()) as pool:  # each may hold a large photo
        yield from tqdm(pool.map(read, files), "reading images", len(files), unit="image")
