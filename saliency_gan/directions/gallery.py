"""Pictures of directions: the ranking, one picture per direction, and an index page."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.criteria import CRITERIA
from saliency_gan.directions.drawing import draw_shifted, lay_out
from saliency_gan.generators.base import Generator
from saliency_gan.images import ImageArray
from saliency_gan.images.brightness import brightness
from saliency_gan.images.layout import grid
from saliency_gan.images.writing import write_image
from saliency_gan.results.directions import BackgroundDirection
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.storage.files import write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

RANKING_ROWS = 3
RANKING_TILE = 64
GALLERY_SHIFTS = (-8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0)
"""The range of shifts that the paper's raters saw, along a direction of unit length."""


def draw_ranking(
    config: DiscoverConfig,
    generator: Generator,
    candidates: Sequence[tuple[dict[str, Any], Tensor]],
    chosen: BackgroundDirection,
    among: Sequence[int] | None,
    fabric: "Fabric",
) -> ImageArray:
    """Draws one block with a caption per direction. Along a row, s of G(z + s h, c) goes from 0 to the shift.

    The last image of a row is the mask.

    Args:
        config: `theta` and `seed` are used.
        generator: G, frozen, on fabric's device.
        candidates: Entries of the ranking, each with its unit vector [latent_dim] times its sign.
        chosen: The direction to mark as h_bg.
        among: Classes to draw from; None for all.
        fabric: Where and in which precision to compute.

    Returns:
        uint8 [H, W, 3].
    """
    latents, classes = _subjects(generator, RANKING_ROWS, config.seed, among)
    blocks = []
    for entry, vector in candidates:
        steps = torch.linspace(0, entry["shift"], 6)
        shown = draw_shifted(generator, latents, classes, steps[:, None] * vector, fabric)
        masks = brightness(shown[-1:], entry["polarity"]) < config.theta
        tiles = torch.cat([shown, masks[:, :, None].expand(-1, -1, shown.shape[2], -1, -1) * 1.6 - 1])
        sheet = lay_out(tiles, RANKING_TILE)
        is_chosen = (entry["index"], entry["sign"], entry["shift"]) == (chosen.index, chosen.sign, chosen.shift)
        name = "optimised" if entry["index"] is None else f"direction {entry['index']}"
        caption = f"{name}  sign {entry['sign']:+d}  shift {entry['shift']:g}  {entry['polarity']}"
        caption += f"  score {entry['score']:.3f}" + ("  <- h_bg" if is_chosen else "")
        blocks.append(_captioned(sheet, caption))
    return grid(blocks, columns=2, gap=12)


def write_gallery(
    folder: Path,
    config: DiscoverConfig,
    generator: Generator,
    matrix: Tensor,
    scores: Sequence[dict[str, Any]],
    names: Mapping[int, str],
    among: Sequence[int] | None,
    fabric: "Fabric",
) -> None:
    """Writes direction-000.png ... and index.html. Each row shows one latent, G(z + s h, c) with s from -8 to 8.

    Args:
        folder: Where to write.
        config: `gallery_samples` and `seed` are used.
        generator: G, frozen, on fabric's device.
        matrix: A, float [latent_dim, K]; its columns are shown at unit length.
        scores: The ranking, best first.
        names: Names that a user gave to directions, by index.
        among: Classes to draw from; None for all.
        fabric: Where and in which precision to compute.
    """
    latents, classes = _subjects(generator, config.gallery_samples, config.seed, among)
    steps = torch.tensor(GALLERY_SHIFTS)[:, None]
    for index, unit in enumerate(
        tqdm(F.normalize(matrix.float().cpu(), dim=0).T, "drawing the gallery", unit="direction")
    ):
        shown = draw_shifted(generator, latents, classes, steps * unit, fabric)
        write_image(folder / f"direction-{index:03d}.png", lay_out(shown, min(generator.resolution, 128)))
    write_index(folder, scores, names)


def write_index(folder: Path, scores: Sequence[dict[str, Any]], names: Mapping[int, str]) -> None:
    """Writes index.html, which shows the gallery's pictures with their names in the order of the ranking."""
    legend = "".join(f"<li><b>{name}</b>: {escape(meaning)}</li>" for name, meaning in CRITERIA.items())
    rows = "".join(
        f"<h2>{entry['rank']}. {_heading(entry['index'], names)}</h2>"
        f"<p>score {entry['score']:.3f} at sign {entry['sign']:+d}, shift {entry['shift']:g},"
        f" polarity {entry['polarity']}: "
        + ", ".join(f"{escape(name)} {value:.2f}" for name, value in entry["parts"].items())
        + f'</p><img loading="lazy" alt="" src="direction-{entry["index"]:03d}.png">'
        for entry in scores
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Directions</title>'
        "<style>body{font:15px sans-serif;max-width:64em;margin:2em auto}img{max-width:100%}</style>"
        "<h1>Directions, best background direction first</h1>"
        "<p>A row is one latent; along a row the shift goes from -8 to 8. Choose another one with"
        " <code>saliency-gan discover --direction INDEX --sign SIGN --shift SHIFT</code>, name one with"
        " <code>saliency-gan annotate --direction INDEX --name NAME</code>.</p>"
        f"<ul>{legend}</ul>{rows}</html>\n"
    )
    write_text(folder / "index.html", page)


def _heading(index: int, names: Mapping[int, str]) -> str:
    return f"{escape(names[index])} (direction {index})" if index in names else f"direction {index}"


def _subjects(generator: Generator, count: int, seed: int, among: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    return generator.sample(count, random_stream(seed, Stream.GALLERY), among)


def _captioned(sheet: ImageArray, caption: str) -> ImageArray:
    strip = np.full((18, sheet.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, caption, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, sheet])
