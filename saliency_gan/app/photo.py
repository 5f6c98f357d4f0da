"""Pictures of a photo for the page: map, mask and cut-out."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from saliency_gan.config.predict import EdgeRefinement
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import shrink
from saliency_gan.images.reading import Picture, decode_picture
from saliency_gan.images.writing import write_image
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.drawing import draw, find_threshold
from saliency_gan.prediction.marked_photo import MarkedPhoto
from saliency_gan.prediction.refinement import refine
from saliency_gan.saliency.photo_predictor import PhotoPredictor, SaliencyMap

PREVIEW_SIDE = 800
"""Longer side of pictures on the page in pixels, at most; it is small, so that the page reacts to sliders at once."""
REFINEMENTS: tuple[EdgeRefinement, ...] = get_args(EdgeRefinement)
BACKGROUNDS = ("transparent", "white", "blur", "colour")
KINDS = ("map", "mask", "cutout")


@dataclass(frozen=True)
class Photo:
    """A photo and the network's map of it, which do not depend on the settings of the page.

    Attributes:
        name: Name of the file, without folder and suffix.
        picture: The decoded file.
        preview: The photo, uint8 [h, w, 3], with a longer side of at most PREVIEW_SIDE pixels.
        saliency: The network's map, float32 [h, w] in [0, 1].
    """

    name: str
    picture: Picture
    preview: ImageArray
    saliency: SaliencyMap


@dataclass(frozen=True)
class Look:
    """The user's choices on the page.

    Attributes:
        threshold: Pixels with at least this saliency, in [0, 1], belong to the mask; or otsu.
        refinement: none, guided, solver or matting.
        background: Background of the cut-out: transparent, white, blur or #RRGGBB; never a file.
    """

    threshold: float | Literal["otsu"] = 0.5
    refinement: EdgeRefinement = "none"
    background: str = "transparent"


@dataclass(frozen=True)
class Pictures:
    """The pictures that the page shows.

    Attributes:
        map: uint8 [h, w], saliency times 255.
        mask: uint8 [h, w] of 0 and 255.
        cutout: uint8 [h, w, 4], or [h, w, 3] on a background.
        threshold: The threshold that was used, in [0, 1].
        share: Share of the photo that the mask covers, in [0, 1].
    """

    map: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    cutout: NDArray[np.uint8]
    threshold: float
    share: float


def mark(predictor: PhotoPredictor, data: bytes, name: str) -> Photo:
    """Decodes an image file and runs the network on it, once.

    Args:
        predictor: The network.
        data: The file's bytes.
        name: Name of the file, for errors.

    Raises:
        UserError: If it is no image, is damaged, or has more than `images.reading.MAX_PIXELS`.
    """
    picture = decode_picture(data, name)
    saliency = predictor.mark([predictor.squeeze(picture.rgb)])[0]
    return Photo(Path(name).stem, picture, shrink(picture.rgb, PREVIEW_SIDE), saliency)


def draw_pictures(photo: Photo, look: Look) -> Pictures:
    """Draws map, mask and cut-out at the size of the preview, without the network.

    Raises:
        UserError: If `Look` has a value that is not allowed, or pymatting is missing.
    """
    marked, background = _refined(photo, photo.preview, look)
    own = None if photo.picture.rgba is None else shrink(photo.picture.rgba, PREVIEW_SIDE)
    pictures = {kind: draw(kind, marked, background, own) for kind in KINDS}
    used = find_threshold(photo.saliency, look.threshold)
    return Pictures(**pictures, threshold=used, share=float((pictures["mask"] > 0).mean()))  # type: ignore[arg-type]


def write_pictures(photo: Photo, look: Look, folder: Path) -> list[Path]:
    """Writes map, mask and cut-out at the photo's own size as PNG files, the same as `predict` writes.

    Raises:
        UserError: As `draw_pictures`.
        StageError: If the folder cannot be written.
    """
    marked, background = _refined(photo, photo.picture.rgb, look)
    paths = [folder / f"{photo.name}-{kind}.png" for kind in KINDS]
    for kind, path in zip(KINDS, paths, strict=True):
        write_image(path, draw(kind, marked, background, photo.picture.rgba), photo.picture.density)
    return paths


def parse_colour(text: str) -> str:
    """Converts a colour from a browser, #RRGGBB or rgb(R, G, B) or rgba(R, G, B, A), to #RRGGBB.

    Raises:
        UserError: If it is none of these.
    """
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return text
    numbers = re.fullmatch(r"rgba?\((\d+(?:\.\d*)?), *(\d+(?:\.\d*)?), *(\d+(?:\.\d*)?)(?:, *[\d.]+)?\)", text)
    if numbers is None:
        raise UserError(f"{text[:40]!r} is no colour: choose one on the page.")
    return "#" + "".join(f"{min(255, round(float(number))):02x}" for number in numbers.groups())


def _refined(photo: Photo, image: ImageArray, look: Look) -> tuple[MarkedPhoto, Background]:
    # A value from a browser is never used as the path of a background image.
    if look.background not in BACKGROUNDS[:-1] and not look.background.startswith("#"):
        raise UserError(f"{look.background[:40]!r} is no background: choose {', '.join(BACKGROUNDS)}.")
    if look.refinement not in REFINEMENTS:
        raise UserError(f"{look.refinement[:40]!r} is no refinement: choose {', '.join(REFINEMENTS)}.")
    if look.threshold != "otsu" and not 0 <= look.threshold <= 1:
        raise UserError(f"The threshold {look.threshold} has to lie between 0 and 1.")
    threshold = find_threshold(photo.saliency, look.threshold)
    return refine(image, photo.saliency, threshold, look.refinement), Background(look.background)
