"""`walk`: renders a picture or an animation of the images along one direction."""

import io
import math
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import WalkConfig
from saliency_gan.directions.discovered import open_discovered
from saliency_gan.directions.drawing import draw_shifted, images_at_once
from saliency_gan.errors import StageError
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8
from saliency_gan.images.writing import encode
from saliency_gan.results.directions import Directions
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.storage.files import write_bytes

ANIMATION_FRAMES, STRIP_FRAMES = 33, 9

LARGEST_MP4 = 8192
"""Longest side of an mp4 in pixels, a limit of its encoder."""


def walk(config: WalkConfig) -> Path:
    """Renders G(z + s h, c) for s from `config.start` to `config.end`, h of unit length.

    An animation shows all z at once and one s after the other. A strip has one row per z and one column per s.

    Returns:
        The file, `config.output`.

    Raises:
        UserError: If a setting is out of range, or there is no such direction, generator or class.
        StageError: If the file cannot be written.
    """
    config.check()
    found = open_discovered(config.choice, config.found_directions)
    fabric = make_fabric(config.device, config.precision)
    generator = found.generator.to(fabric.device)
    among = generator.class_indices(config.classes)
    vector = _unit_vector(found.directions, config.direction)
    random = random_stream(config.seed, Stream.WALK)
    latents, classes = generator.sample(config.samples, random, among)
    suffix = config.output.suffix.lower()
    frames = config.frames or (STRIP_FRAMES if suffix == ".png" else ANIMATION_FRAMES)
    offsets = torch.linspace(config.start, config.end, frames)[:, None] * vector
    is_strip, columns = suffix == ".png", math.ceil(math.sqrt(config.samples))
    shown: list[list[ImageArray]] = []
    sheets: list[ImageArray] = []
    for some in tqdm(offsets.split(max(1, images_at_once(generator) // config.samples)), "walking", unit="batch"):
        for images in draw_shifted(generator, latents, classes, some, fabric):
            tiles = [_resized(image, config.scale) for image in to_uint8(images)]
            if is_strip:
                shown.append(tiles)
            else:
                sheets.append(grid(tiles, columns))
    if is_strip:
        rows = [tile for row in zip(*shown, strict=True) for tile in row]
        data = encode(grid(rows, columns=frames))
    else:
        data = (_gif if suffix == ".gif" else _mp4)(sheets + sheets[-2:0:-1] * config.back, config.fps)
    write_bytes(config.output, data)
    print(f"walk from {config.start:g} to {config.end:g} written to {config.output}")
    return config.output


def _unit_vector(directions: Directions, direction: int | str | None) -> torch.Tensor:
    if direction is None:
        return directions.background_vector
    return F.normalize(directions.matrix[:, directions.index_of(direction)], dim=0)


def _resized(image: ImageArray, scale: float) -> ImageArray:
    side = max(1, round(scale * image.shape[0]))
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))


def _gif(sheets: Sequence[ImageArray], fps: int) -> bytes:
    """Encodes an endless animation; every frame has its own 256 colours."""
    frames = [Image.fromarray(sheet).quantize(256, Image.Quantize.MEDIANCUT) for sheet in sheets]
    # A GIF's times are whole hundredths of a second. Each frame ends at the one next to its true end.
    ends = [10 * round(100 * number / fps) for number in range(len(frames) + 1)]
    durations = [end - begin for begin, end in pairwise(ends)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _mp4(sheets: Sequence[ImageArray], fps: int) -> bytes:
    """Encodes MPEG-4 video. OpenCV needs a file with a video suffix, and some players only accept even sizes."""
    height, width = (side + side % 2 for side in sheets[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.mp4"
        video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not video.isOpened() and max(height, width) > LARGEST_MP4:
            raise StageError(
                f"An mp4 of {width} x {height} pixels cannot be written, at most {LARGEST_MP4} are possible: give a"
                " lower --scale or fewer --samples."
            )
        if not video.isOpened():
            raise StageError("This build of OpenCV cannot write mp4: give an --output that ends in .gif or .png.")
        for sheet in sheets:
            bottom, right = height - sheet.shape[0], width - sheet.shape[1]
            even = cv2.copyMakeBorder(sheet, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            video.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        video.release()
        # A full disk is no error to OpenCV.
        if cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) != len(sheets):
            raise StageError(f"The mp4 could not be written to {folder}: free some space there, or set TMPDIR.")
        return path.read_bytes()
