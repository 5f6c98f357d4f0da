"""Images along a generator's directions for the page, and the masks that stage 2 would make for them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.app.sampling import sample
from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import MasksConfig
from saliency_gan.directions.discovered import Discovered
from saliency_gan.directions.drawing import draw_shifted
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.images import ImageArray
from saliency_gan.images.layout import grid
from saliency_gan.images.tensors import to_uint8
from saliency_gan.masks.filters import clean
from saliency_gan.masks.masker import Masker
from saliency_gan.results.painters import load_painters
from saliency_gan.runs.random_streams import Stream, random_stream

SHOWN = 6
"""Latents in each row."""
MAX_SHIFT = 8.0
NO_COLUMN = -1
"""Stands for an h_bg that was found by gradient and is no column of A."""
TILE, GAP = 192, 6
"""Side of the images in a row and gap between them, in pixels."""


@dataclass(frozen=True)
class Moved:
    """One row of images and one of masks.

    Attributes:
        images: G(z + s h, c), uint8 [H, W, 3].
        masks: Their masks, uint8 [H, W, 3] of 0 and 255 on white.
    """

    images: ImageArray
    masks: ImageArray


class Explorer:
    """A generator with its directions.

    Args:
        found: G and its directions.
        config: The rule's settings, seed, device and precision are used.
        dissection: Folder with the dissection.json whose units the units rule uses, if there is one.

    Attributes:
        name: Name of the generator.
        directions: Choices for the user, best background direction first: title, and column of A.
        classes: Choices for the user: name and index.

    Raises:
        UserError: If the rule needs units and there is no dissection.
    """

    def __init__(self, found: Discovered, config: MasksConfig, dissection: Path | None) -> None:
        self._fabric = make_fabric(config.device, config.precision)
        self._generator = found.generator.to(self._fabric.device)
        self._directions, self._config = found.directions, config
        self._background = found.directions.background
        painters = None
        if "units" in config.rules:
            if dissection is None:
                raise UserError(f"The rule units needs a dissection of {found.generator.name}: run dissect first.")
            painters = load_painters(dissection, self._generator)
        self._masker = Masker(config, self._generator, found.directions, painters, self._fabric)
        self.name = found.generator.name
        self.directions = [(self._title(score), int(score["index"])) for score in self._ranked()]
        if self._background.index is None:
            self.directions.insert(0, (f"h_bg, found by gradient, score {self._background.score:.2f}", NO_COLUMN))
        self.classes = [(name, index) for index, name in enumerate(found.generator.class_names)]

    @property
    def generator(self) -> Generator:
        """G, frozen, on its device."""
        return self._generator

    @property
    def rule(self) -> str:
        """The rule that makes the masks, in words."""
        config = self._config
        name = f"consensus of {', '.join(config.rules)}" if config.rule == "consensus" else config.rule
        theta = f", theta {config.theta}" if {"threshold", "two-sided"} & set(config.rules) else ""
        return f"rule {name}{theta}" + (f", h_bg with shift {self._masker.shift:g}" if config.shifts else "")

    def start(self, draw: int, class_index: int | None) -> ImageArray:
        """Draws G(z, c) as a row.

        Args:
            draw: Number of the latents; the same number gives the same latents.
            class_index: c; None draws it at random.

        Returns:
            uint8 [H, W, 3].
        """
        latents, classes = self._sample(draw, class_index)
        return _row(to_uint8(draw_shifted(self._generator, latents, classes, latents.new_zeros(1, 1), self._fabric)[0]))

    def move(self, draw: int, class_index: int | None, direction: int, shift: float) -> Moved:
        """Draws G(z + s h, c) with h of unit length as a row, and the masks that stage 2 gives those images.

        Args:
            draw: As for `start`.
            class_index: As for `start`.
            direction: Column of A, or NO_COLUMN for an h_bg that is no column.
            shift: s, from -MAX_SHIFT to MAX_SHIFT.

        Raises:
            UserError: If there is no such direction or the shift is out of range.
        """
        if not math.fabs(shift) <= MAX_SHIFT:
            raise UserError(f"The shift {shift} has to lie between {-MAX_SHIFT:g} and {MAX_SHIFT:g}.")
        latents, classes = self._sample(draw, class_index)
        if direction == NO_COLUMN and self._background.index is None:
            column = self._directions.background_vector
        else:
            column = self._directions.matrix[:, self._directions.index_of(direction)]
        latents = latents + shift * F.normalize(column, dim=0)
        images = to_uint8(self._masker.draw(latents, classes))
        found = self._masker.masks(self._masker.look(latents, classes)).chosen.cpu().numpy()
        masks = np.stack([clean(mask, self._config) for mask in found]) * np.uint8(255)
        return Moved(_row(images), _row(np.repeat(masks[:, :, :, None], 3, axis=3), cv2.INTER_NEAREST))

    def _ranked(self) -> list[dict[str, Any]]:
        """The scores, best first; directions without a score are last."""
        scores = sorted(self._directions.scores, key=lambda score: score["rank"])
        known = {score["index"] for score in scores}
        return [*scores, *({"index": index} for index in range(self._directions.matrix.shape[1]) if index not in known)]

    def _title(self, score: dict[str, Any]) -> str:
        index = int(score["index"])
        name = self._directions.names.get(index)
        title = f"{index} {name}" if name else f"{index}"
        if "score" in score:
            title += f", background score {score['score']:.2f}"
        if index == self._background.index:
            title += f", is {'-' * (self._background.sign < 0)}h_bg"
        return title

    def _sample(self, draw: int, class_index: int | None) -> tuple[Tensor, Tensor]:
        return sample(self._generator, random_stream(self._config.seed, Stream.EXPLORING, draw), SHOWN, class_index)


def _row(images: ImageArray, enlarged_by: int = cv2.INTER_CUBIC) -> ImageArray:
    """Images, uint8 [N, H, W, 3], side by side in tiles of TILE pixels."""
    how = cv2.INTER_AREA if images.shape[1] > TILE else enlarged_by
    tiles = [np.asarray(cv2.resize(image, (TILE, TILE), interpolation=how), np.uint8) for image in images]
    return grid(tiles, len(tiles), GAP)
