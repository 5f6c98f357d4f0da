"""Reads a photo from standard input, and writes a result to standard output."""

import sys
from collections.abc import Sequence
from pathlib import Path

from saliency_gan.config import PredictConfig
from saliency_gan.errors import UserError
from saliency_gan.images.reading import Picture, UnreadableImageError, decode_picture, read_picture
from saliency_gan.images.writing import encode
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.drawing import PHOTO_SUFFIXES, check_length, draw, find_threshold
from saliency_gan.prediction.jobs import STREAM, VIDEO_SUFFIXES
from saliency_gan.prediction.refinement import refine
from saliency_gan.saliency.photo_predictor import PhotoPredictor
from saliency_gan.storage.files import is_folder

INPUT = "standard input"
LARGEST_INPUT = 1 << 30
"""Largest number of bytes that are read from standard input, which may never end."""


def read_file_or_input(path: Path) -> Picture:
    """Reads a photo; STREAM stands for the photo from standard input.

    Raises:
        UnreadableImageError: As `read_picture`.
    """
    if path != STREAM:
        return read_picture(path)
    data = sys.stdin.buffer.read(LARGEST_INPUT + 1) if sys.stdin else b""  # stdin may be closed
    if len(data) > LARGEST_INPUT:
        raise UnreadableImageError(f"{INPUT} has more than {LARGEST_INPUT:,} bytes: send a single photo.")
    return decode_picture(data, INPUT)


def check_output_is_one(config: PredictConfig, paths: Sequence[Path]) -> None:
    """Refuses more than one result for standard output.

    Raises:
        UserError: If there is more than one photo or kind, or a video.
    """
    is_photo = len(paths) == 1 and not is_folder(paths[0]) and paths[0].suffix.lower() not in VIDEO_SUFFIXES
    if len(config.save) != 1 or not is_photo:
        raise UserError(
            "--output - writes one result of one photo, and none of a video: give one photo, and one kind, as in --save"
            " cutout."
        )


def mark_to_output(path: Path, predictor: PhotoPredictor, background: Background, config: PredictConfig) -> None:
    """Marks a photo and writes its only result to standard output, as PNG or JPEG.

    Raises:
        UserError: If the photo cannot be read, or is too long for the result.
    """
    (kind,) = config.save
    picture = read_file_or_input(path)
    check_length(path, picture.rgb, config.save)
    small = predictor.mark([predictor.squeeze(picture.rgb)])[0]
    marked = refine(picture.rgb, small, find_threshold(small, config.threshold), config.refine)
    drawn = draw(kind, marked, background, picture.rgba)
    sys.stdout.buffer.write(encode(drawn, PHOTO_SUFFIXES[kind], density=picture.density))
    sys.stdout.buffer.flush()
