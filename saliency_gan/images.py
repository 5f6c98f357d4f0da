"""The only place where files, uint8 HWC arrays, [0, 1] and [-1, 1] tensors meet."""

import io
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from saliency_gan.errors import UserError
from saliency_gan.files import is_folder, is_plain, write_bytes

if TYPE_CHECKING:
    import torch  # prediction with onnxruntime does without it
    from torch import Tensor

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow is allowed to take a file for, whatever its suffix; its other readers are older, and one of them starts
Ghostscript."""

MAX_PIXELS = 100_000_000
"""Larger files are refused before they are decoded, so that an image bomb cannot fill the memory."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is checked instead

ImageArray = NDArray[np.uint8]
_BLOCK = 1 << 20
"""Pixels that are converted at once where that takes more memory than the picture."""


class UnreadableImageError(UserError):
    """One image file cannot be used; callers that work on many files name it and go on."""


def find_images(folder: Path, recursive: bool = False) -> list[Path]:
    """What a folder has that is called like an image, sorted; hidden files are left out.

    Links to files are followed, those to folders are not. A pipe or a link to nothing is in the list: reading it says
    what it is.

    Raises:
        UserError: If the folder does not exist or holds no image.
    """
    if not is_folder(folder):
        raise UserError(f"There is no folder {folder}: give the folder that holds the images.")
    files = find_files(folder, IMAGE_SUFFIXES, recursive)
    if not files:
        raise UserError(f"{folder} holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return files


def find_files(folder: Path, suffixes: Collection[str], recursive: bool) -> list[Path]:
    """As `find_images`, for any suffixes in small letters; the list may be empty."""
    return sorted(
        path
        for path in (folder.rglob("*") if recursive else folder.glob("*"))
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and not is_folder(path)
    )


def pixels_of(path: Path) -> int:
    """Pixels that an image's header promises; 0 where it cannot be read, which decoding is going to explain."""
    try:
        if not is_plain(path):
            return 0
        with Image.open(path, formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # Pillow's readers raise many kinds for damaged files
        return 0


def read_image(path: Path) -> ImageArray:
    """Decodes any common image file to RGB.

    EXIF orientation is applied, 16-bit is scaled to 8-bit, grey is repeated, CMYK is converted, transparency is
    composited on white.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UnreadableImageError: If the file is missing, truncated, none of FORMATS, or has more than MAX_PIXELS.
    """
    return _decode(path, path)


def decode_image(data: bytes, name: str) -> ImageArray:
    """Decodes an image file's bytes as `read_image` does; errors call it `name`."""
    return _decode(io.BytesIO(data), name)


def _decode(file: Path | io.BytesIO, name: object) -> ImageArray:
    if isinstance(file, Path) and not is_plain(file):
        # A pipe would keep its reader waiting.
        raise UnreadableImageError(f"{name} cannot be read as an image (it is a directory, pipe or device).")
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return to_rgb(image)
    except FileNotFoundError:
        raise UnreadableImageError(f"There is no image {name}.") from None
    except UnidentifiedImageError:
        size = file.stat().st_size if isinstance(file, Path) else len(file.getvalue())
        reason = "it is empty" if size == 0 else "no known format"
        raise UnreadableImageError(f"{name} cannot be read as an image ({reason}).") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(
            f"{name} has more than the {MAX_PIXELS:,} pixels allowed: shrink it first."
        ) from None
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise UnreadableImageError(f"{name} cannot be read as an image ({_first_line(error)}).") from None


def to_rgb(image: Image.Image) -> ImageArray:
    """Converts a Pillow image of any mode to uint8 [H, W, 3], as `read_image` does."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # exif_transpose copies in any case
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = np.asarray(image)
        return np.repeat(_to_8_bit(grey, 65535.0 if image.mode != "F" else _brightest(grey))[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _brightest(grey: NDArray[Any]) -> float:
    return max(1.0, float(np.fmax.reduce(grey, axis=None)))  # which is NaN only where all of it is


def _to_8_bit(grey: NDArray[Any], top: float) -> ImageArray:
    scaled = np.empty(grey.shape, np.uint8)
    rows = max(1, _BLOCK // grey.shape[1])
    with np.errstate(invalid="ignore"):
        for first in range(0, len(grey), rows):
            part = grey[first : first + rows].astype(np.float64) / top * 255
            scaled[first : first + rows] = np.nan_to_num(part).clip(0, 255).round()
    return scaled


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Decodes a mask or a saliency map as grey values.

    Returns:
        uint8 [H, W].

    Raises:
        UnreadableImageError: As `read_image`.
    """
    return cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


def encode(image: NDArray[np.uint8] | NDArray[np.uint16], suffix: str = ".png", quality: int = 95) -> bytes:
    """Encodes [H, W], [H, W, 3] RGB or [H, W, 4] RGBA as PNG or JPEG bytes."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else []
    return cv2.imencode(suffix, image, options)[1].tobytes()


def write_image(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes an image atomically; the suffix of `path` chooses PNG or JPEG."""
    write_bytes(path, encode(image, path.suffix.lower()))


def to_uint8(images: "Tensor") -> ImageArray:
    """Float [N, C, H, W] in [-1, 1] -> uint8 [N, H, W, 3]; grey is repeated, values outside are clipped."""
    scaled = images.float().add(1).mul_(127.5).round_().clamp_(0, 255).byte()
    if scaled.shape[1] == 1:
        scaled = scaled.expand(-1, 3, -1, -1)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_signed(images: ImageArray, device: "torch.device | str" = "cpu") -> "Tensor":
    """uint8 [N, H, W, C] -> float [N, C, H, W] in [-1, 1] on `device`, to which only the bytes travel."""
    import torch

    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_unit(images: "Tensor") -> "Tensor":
    """Float in [-1, 1] -> float in [0, 1], clipped."""
    return images.add(1).div(2).clamp(0, 1)


def square(image: ImageArray, side: int) -> ImageArray:
    """Fits an image into a square, padded with its edge pixels: uint8 [side, side, 3]."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, (new_width, new_height), interpolation=interpolation)  # type: ignore[assignment]
    top, left = (side - new_height) // 2, (side - new_width) // 2
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        image, top, side - new_height - top, left, side - new_width - left, cv2.BORDER_REPLICATE
    )


def grid(images: Iterable[ImageArray], columns: int, gap: int = 2) -> ImageArray:
    """Lays equally large uint8 [H, W, 3] images out in rows on white; returns uint8 [H', W', 3]."""
    tiles = list(images)
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
