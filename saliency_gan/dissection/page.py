"""The page of `dissect`, and the pictures of units."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from saliency_gan.config import DissectConfig
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.generators.base import Generator
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8
from saliency_gan.images.writing import write_image
from saliency_gan.pages.page import Section, Table, render
from saliency_gan.storage.files import write_bytes, write_text

TILE = 96
EFFECT = ["units", "ACE", "95 % interval", "random units", "margin", "95 % interval of the margin"]
KINDS = {"object": "#c0392b", "colour": "#8e44ad", "light": "#f1c40f", "texture": "#2980b9", "place": "#27ae60"}
"""Colours of the kinds of concepts in the plot."""
SHOWN_CONCEPTS = 20
"""Largest number of concepts per layer in the plot."""


def write_unit_pictures(config: DissectConfig, sampler: Sampler, found: dict[str, Any], folder: Path) -> None:
    """Writes one picture per layer with one row per unit: its strongest images, outlined where it is active.

    A unit is active where it is above its threshold.
    """
    for layer, units in found["layers"].items():
        (folder / f"{layer}.png").unlink(missing_ok=True)  # of an earlier run
        rows = []
        for unit in _best(units, config.top_units):
            for number in unit["top_images"]:
                seen = sampler.draw([number])
                large = F.interpolate(seen.features[layer], seen.images.shape[-2:], mode="bilinear")
                active = (large[0, unit["unit"]] > unit["threshold"]).cpu().numpy()
                rows.append(_outlined(to_uint8(seen.images)[0], active))
        if rows:
            columns = len(units[0]["top_images"])
            write_image(folder / f"{layer}.png", grid(rows, columns))


def _outlined(image: ImageArray, active: np.ndarray) -> ImageArray:
    """A tile of the image: all pixels are darkened except the active ones, which have a yellow outline."""
    large = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    mask = cv2.resize(active.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    shown = np.where(mask[:, :, None] > 0, large, large // 3).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(shown, outlines, -1, (255, 220, 0), 1), np.uint8)


def write_page(config: DissectConfig, generator: Generator, found: dict[str, Any], folder: Path) -> Path:
    """Writes dissect.html, a self-contained page."""
    _plot_counts(found, folder / "concepts.png")
    sections = [_overview(config, found, folder)]
    if found["painters"]:
        sections.append(_painters(found["painters"]))
    if found["interventions"]:
        sections.append(_interventions(found["interventions"], folder))
    if found["artifacts"]:
        sections.append(_artifacts(found["artifacts"], folder))
    for layer, units in found["layers"].items():
        section = Section(f"Layer {layer}", layer)
        shown = _best(units, config.top_units)
        head = ["unit", "concept", "IoU", "95 % interval", "information quality", "threshold"]
        rows = [
            [
                str(unit["unit"]),
                unit["concept"] or "",
                f"{unit['iou']:.3f}",
                f"{unit['low']:.3f} to {unit['high']:.3f}",
                f"{unit['quality']:.3f}",
                f"{unit['threshold']:.2f}",
            ]
            for unit in shown
        ]
        section.tables.append(Table(f"The {len(shown)} units that agree best, of {len(units)}", head, rows, words=(1,)))
        caption = (
            "A row a unit of the table: its strongest images; where it is above its threshold is bright and outlined"
        )
        section.show(folder / "units" / f"{layer}.png", caption, wide=False)
        sections.append(section)
    facts = [
        ("Generator", f"{generator.name} (sha256 {generator.sha256[:12]})"),
        ("Images", f"{config.images:,} for the thresholds, {config.images:,} others for the IoU; seed {config.seed}"),
    ]
    page = folder / "dissect.html"
    write_text(page, render(f"{generator.name} dissected", facts, sections))
    return page


def _overview(config: DissectConfig, found: dict[str, Any], folder: Path) -> Section:
    section = Section("Units by layer and kind", "overview")
    section.sentences.append(
        f"A unit is a channel of a layer. It has the concept that it agrees with best, where their IoU is above"
        f" {config.min_iou:g}."
    )
    kinds = sorted({concept["kind"] for concept in found["concepts"]})
    rows = []
    for layer, units in found["layers"].items():
        counts = Counter(unit["kind"] for unit in units)
        different = len({unit["concept"] for unit in units} - {None})
        rows.append([layer, str(len(units)), str(len(units) - counts[None]), str(different)])
        rows[-1] += [str(counts[kind]) for kind in kinds]
    head = ["layer", "units", "with a concept", "different concepts", *kinds]
    section.tables.append(Table("Units by layer and by kind of concept", head, rows))
    section.show(folder / "concepts.png", "How many units have each concept")
    section.show_settings(folder)
    return section


def _painters(found: dict[str, Any]) -> Section:
    section = Section("Units that make masks", "painters")
    section.sentences.append(
        f"{len(found['units'])} units of all layers vote on every pixel, with I / H as weight: those of the"
        f" {found['concept']} for it where they are above their thresholds, those of what is around it where they are"
        f" not. What more than half of the votes call {found['concept']} has an IoU of {found['iou']:.3f} with it"
        f" ({found['low']:.3f} to {found['high']:.3f}). These are the masks of saliency-gan masks --rule units."
    )
    counts = Counter((unit["layer"], unit["paints"]) for unit in found["units"])
    layers = sorted({layer for layer, _ in counts})
    rows = [[layer, str(counts[layer, "object"]), str(counts[layer, "background"])] for layer in layers]
    section.tables.append(Table("Who votes", ["layer", found["concept"], "around it"], rows))
    return section


def _interventions(found: dict[str, Any], folder: Path) -> Section:
    section = Section(f"Switching the units of {found['concept']}", "interventions")
    section.sentences.append(
        f"Units of {found['layer']}, those that agree best first, in {found['images']} images. ACE is the share of the"
        f" image that is {found['concept']} with the units set to their mean where it is present, minus that with the"
        " units off; the control switches as many random units, the mean of three sets."
    )
    section.tables.append(Table("Average causal effect, the units that agree best", EFFECT, _effects(found["curve"])))
    if "alpha" in found:
        section.tables.append(Table("The units with the largest optimised alpha", EFFECT, _effects(found["alpha"])))
    caption = "Above the images, in the middle without the units, below with them inserted"
    section.show(folder / "interventions.png", caption)
    return section


def _effects(curve: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            str(row["units"]),
            f"{row['ace']:+.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}",
            f"{row['random_ace']:+.3f}",
            f"{row['margin']:+.3f}",
            f"{row['margin_low']:+.3f} to {row['margin_high']:+.3f}",
        ]
        for row in curve
    ]


def _artifacts(found: dict[str, Any], folder: Path) -> Section:
    section = Section("Artifact units", "artifacts")
    units = ",".join(map(str, found["units"]))
    section.sentences += [
        f"The units of {found['layer']} whose ablation improves realism most by the {found['ranked_by']}, ranked in"
        f" {found['images']} images; what leaving them out does was measured in {2 * found['images']} others. A"
        " distance improves where it falls.",
        f"--ablate-units {found['layer']}:{units} leaves them out of what any command generates."
        if units
        else "No unit improves it beyond chance.",
    ]
    head = ["realism by", "as it is", "without the units", "without random ones", "improvement", "95 % interval"]
    rows = [
        [
            name,
            *(f"{row[key]:.3f}" for key in ("before", "after", "random")),
            f"{row['improvement']:+.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}" if "low" in row else "",
        ]
        for name, row in found["verified"].items()
    ]
    if rows:
        section.tables.append(Table("All of them left out, other images", head, rows))
    for caption, key, first in (
        ("Left out one by one, ranking images", "candidates", "unit"),
        ("Left out together, best first, ranking images", "curve", "units"),
    ):
        rows = [
            [str(row[first]), f"{row['improvement']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}"]
            for row in found[key]
        ]
        section.tables.append(Table(caption, [first, "improvement", "95 % interval"], rows, folded=True))
    section.show(folder / "artifacts.png", "Above the images that change most, below the same without the units")
    return section


def _best(units: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return sorted(units, key=lambda unit: -unit["quality"])[:count]


def _plot_counts(found: dict[str, Any], path: Path) -> None:
    """Plots how many units of each layer have each concept, the most frequent first, coloured by kind."""
    kinds = {concept["name"]: concept["kind"] for concept in found["concepts"]}
    figure = Figure(figsize=(9, 2.2 * len(found["layers"])), layout="constrained")
    for number, (layer, units) in enumerate(found["layers"].items(), start=1):
        counts = Counter(unit["concept"] for unit in units if unit["concept"]).most_common(SHOWN_CONCEPTS)
        axes = figure.add_subplot(len(found["layers"]), 1, number)
        names = [name for name, _ in counts]
        axes.bar(names, [count for _, count in counts], color=[KINDS[kinds[name]] for name in names])
        axes.set_title(f"{layer}: {len(units)} units", fontsize=9, loc="left")
        axes.tick_params(axis="x", rotation=30, labelsize=8)
    handles = [Patch(color=colour, label=kind) for kind, colour in KINDS.items() if kind in kinds.values()]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())
