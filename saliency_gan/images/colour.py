"""Converts decoded images to 8-bit sRGB: colour profile, bit depth, transparency and orientation."""

import io
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps

from saliency_gan.images import ImageArray

_BLOCK = 1 << 20
"""Pixels that are converted at once if the conversion takes more memory than the picture."""
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile -> Pillow's mode."""
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
"""TIFF's tags BitsPerSample and PhotometricInterpretation, and a value of the latter."""
_SAME = 1
"""A profile that differs from sRGB by at most this many levels counts as sRGB."""


def upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation."""
    if _orientation(image) != 1:  # exif_transpose always copies
        return ImageOps.exif_transpose(image)
    return image


def is_on_its_side(image: Image.Image) -> bool:
    """Whether the EXIF orientation is one that swaps width and height."""
    return _orientation(image) in (5, 6, 7, 8)


def _orientation(image: Image.Image) -> object:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def is_deep(image: Image.Image) -> bool:
    """Whether an image is grey with more than 8 bits."""
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def has_alpha(image: Image.Image) -> bool:
    """Whether an image has transparency information."""
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def deep_to_8_bit(image: Image.Image) -> ImageArray:
    """Scales grey of more than 8 bits to uint8 [H, W], upright. The image has to be as it was opened, because copies
    lose what a TIFF says about its values."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(upright(image))
    grey = _scaled(values, _full_scale(image, values, tags))
    is_negative = image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # else Pillow has inverted
    return 255 - grey if is_negative else grey


def _full_scale(image: Image.Image, values: NDArray[Any], tags: Mapping[int, Any]) -> float:
    """The value of white.

    Integers of up to 16 bits use all of their bits. 32-bit integers may really be 8-bit or 16-bit values. Floats may
    end at 1 or 255; values from 1 to 2 are overshoots. If values are larger than that, the brightest finite one is
    white.
    """
    bits = tags.get(_BITS, (16,))[0]
    if image.mode.startswith("I;16"):
        return 2**bits - 1
    if image.mode == "I" and image.format == "PPM":  # Pillow scales it to 16 bits
        return 65535
    if image.mode == "I" and bits == 16 and tags:  # signed
        return 32767
    brightest = float(np.max(values, where=np.isfinite(values), initial=0))
    if image.mode == "F" and not brightest >= 2:
        return 1
    if brightest <= 255:
        return 255
    return 65535 if image.mode == "I" and brightest <= 65535 else brightest


def _scaled(grey: NDArray[Any], top: float) -> ImageArray:
    scaled = np.empty(grey.shape, np.uint8)
    rows = max(1, _BLOCK // grey.shape[1])
    with np.errstate(invalid="ignore"):
        for first in range(0, len(grey), rows):
            part = grey[first : first + rows].astype(np.float64) / top * 255
            scaled[first : first + rows] = np.nan_to_num(part).clip(0, 255).round()
    return scaled


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An image's own colours as sRGB, and its alpha; alpha is None if the image is opaque."""
    if not has_alpha(image):
        return to_srgb(image), None
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    return to_srgb(rgba.convert("RGB")), None if alpha.getextrema() == (255, 255) else alpha


def to_srgb(image: Image.Image) -> Image.Image:
    """Converts 8-bit grey, colour or CMYK to RGB, with its colour profile if it has one that differs from sRGB."""
    profile = image.info.get("icc_profile")
    mode, transform = _transform(profile) if profile else ("", None)
    if transform is not None and mode == _kind_of(image):
        converted = ImageCms.applyTransform(image.convert(mode), transform)
        assert converted is not None  # None only if an image is changed in place
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _kind_of(image: Image.Image) -> str:
    return {"1": "L", "L": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode of a profile and its transform to sRGB; None if it is damaged, of another colour space, or sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space]
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError):
        return "", None
    return mode, None if _changes_little(transform, mode) else transform


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_little(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform changes a grid of colours over the whole space by at most _SAME levels."""
    if mode == "CMYK":
        return False
    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(colours if mode == "RGB" else colours[:, :, 0])
    after = ImageCms.applyTransform(before, transform)
    return bool(np.abs(np.asarray(after, int) - np.asarray(before.convert("RGB"), int)).max() <= _SAME)
