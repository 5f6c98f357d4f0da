"""Reads image files as uint8 arrays."""

import io
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from saliency_gan.errors import UserError, one_line
from saliency_gan.images import ImageArray
from saliency_gan.images.colour import deep_to_8_bit, is_deep, is_on_its_side, split_alpha, upright
from saliency_gan.images.density import Density, density_of
from saliency_gan.images.formats import pillow_formats, unread_kind
from saliency_gan.images.grey import to_grey
from saliency_gan.storage.files import is_plain

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused before they are decoded, so that an image bomb cannot fill the memory."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is checked instead
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged EXIF, without the photo's name

Converted = TypeVar("Converted")


class UnreadableImageError(UserError):
    """An image file cannot be used; callers that process many files report it and continue."""


class FirstFrameWarning(UserWarning):
    """Only the first picture of an animation or of a file with several pages is read."""


@dataclass(frozen=True)
class Picture:
    """A decoded image file.

    Attributes:
        rgb: The image as sRGB, uint8 [H, W, 3]; transparent parts are composited on white.
        rgba: Its own colours and its alpha, uint8 [H, W, 4]; None if it is opaque.
        density: Dots per inch, horizontal and vertical; None if the file does not say.
    """

    rgb: ImageArray
    rgba: ImageArray | None = None
    density: Density | None = None


def pixels_of(path: Path) -> int:
    """Number of pixels according to an image's header; 0 if it cannot be read. Decoding raises an error then."""
    try:
        if not is_plain(path):
            return 0
        with Image.open(path, formats=pillow_formats(path)) as image:
            return image.width * image.height
    except Exception:  # Pillow's readers raise many kinds of errors for damaged files
        return 0


def read_image(path: Path) -> ImageArray:
    """Decodes any common image file to sRGB.

    The EXIF orientation is applied, colours are converted by the profile, 16-bit is scaled to 8-bit, grey is repeated,
    CMYK is converted, and transparency is composited on white. If there are several frames or pages, the first one is
    read.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadableImageError: If the file is missing, truncated, in a format that is not read, or has more than
            MAX_PIXELS.
    """
    return _decode(path, path, _to_picture).rgb


def decode_image(data: bytes, name: str) -> ImageArray:
    """Decodes an image file's bytes as `read_image` does; errors call it `name`."""
    return _decode(io.BytesIO(data), name, _to_picture).rgb


def read_picture(path: Path) -> Picture:
    """Reads an image as `read_image` does, with its alpha and density.

    Raises:
        UnreadableImageError: As `read_image`.
    """
    return _decode(path, path, _to_picture)


def decode_picture(data: bytes, name: str) -> Picture:
    """Decodes an image file's bytes as `read_picture` does; errors call it `name`."""
    return _decode(io.BytesIO(data), name, _to_picture)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Decodes a mask or a saliency map as grey values; colour profiles are ignored.

    If a file is partly transparent and shows a single colour, or is a cut-out in colour, its alpha is the mask.

    Returns:
        uint8 [H, W]; integers of 0 and 1 stay as they are at any bit depth.

    Raises:
        UnreadableImageError: As `read_image`, or if both grey values and alpha could be the mask.
    """
    return _decode(path, path, to_grey)


def read_truth(path: Path) -> NDArray[np.bool_]:
    """Reads a ground-truth mask: bool [H, W], true where it is brighter than half; 0 and 1 count as 0 and 255.

    Raises:
        UnreadableImageError: If it cannot be read.
    """
    mask = read_mask(path)
    return mask > (0 if mask.max() == 1 else 127)


def _decode(file: Path | io.BytesIO, name: object, convert: Callable[[Image.Image], Converted]) -> Converted:
    if isinstance(file, Path) and not is_plain(file):
        # Reading a pipe may never end.
        raise UnreadableImageError(f"{name} cannot be read as an image (it is a directory, pipe or device).")
    if kind := unread_kind(name):
        raise UnreadableImageError(f"{name} is a {kind.title}, which is not read: {kind.advice}.")
    try:
        # Given the path of an uncompressed TIFF, Pillow maps the file and mixes up the sides of a turned image.
        with _opened(file) as data, Image.open(data, formats=pillow_formats(name)) as image:
            converted = _checked(image, convert)
            _warn_of_frames(image, name)
            return converted
    except FileNotFoundError:
        raise UnreadableImageError(f"There is no image {name}.") from None
    except UnidentifiedImageError:
        size = file.stat().st_size if isinstance(file, Path) else len(file.getvalue())
        reason = "it is empty" if size == 0 else "no known format"
        raise UnreadableImageError(f"{name} cannot be read as an image ({reason}).") from None
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
        raise _refusal(error, name) from None


def _checked(image: Image.Image, convert: Callable[[Image.Image], Converted]) -> Converted:
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if not image.width * image.height:
        raise ValueError("it has no pixels")
    return convert(image)


def _refusal(error: Exception, name: object) -> UnreadableImageError:
    if isinstance(error, Image.DecompressionBombError):
        return UnreadableImageError(f"{name} has more than the {MAX_PIXELS:,} pixels allowed: shrink it first.")
    return UnreadableImageError(f"{name} cannot be read as an image ({_first_line(error)}).")


def _opened(file: Path | io.BytesIO) -> AbstractContextManager[BinaryIO]:
    return open(file, "rb") if isinstance(file, Path) else nullcontext(file)


def _warn_of_frames(image: Image.Image, name: object) -> None:
    try:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # all frames of an MPO show one photo
    except Exception:  # frames after the first one may be damaged
        return
    if frames > 1:
        sentence = one_line(f"{name} has {frames} frames or pages, of which only the first is read.")
        warnings.warn(sentence, FirstFrameWarning, stacklevel=2)


def to_rgb(image: Image.Image) -> ImageArray:
    """Converts a Pillow image of any mode to uint8 [H, W, 3], as `read_image` does.

    Raises:
        UnreadableImageError: As `read_image`.
    """
    try:
        return _checked(image, _to_picture).rgb
    except Exception as error:  # for example of a file that was opened, but is cut
        raise _refusal(error, getattr(image, "filename", "") or "The Pillow image") from None


def _to_picture(image: Image.Image) -> Picture:
    density = density_of(image)
    if density and is_on_its_side(image):
        density = density[::-1]
    if is_deep(image):
        return Picture(np.repeat(deep_to_8_bit(image)[:, :, None], 3, axis=2), density=density)
    image = upright(image)
    colours, alpha = split_alpha(image)
    if alpha is None:
        return Picture(np.array(colours), density=density)
    colours.putalpha(alpha)
    shown = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return Picture(np.array(shown.convert("RGB")), np.array(colours), density)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
