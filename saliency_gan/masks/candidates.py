"""Candidate pairs in an endless, repeatable order: draw, shift, mask, clean, check."""

import itertools
from collections.abc import Generator as Stream
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_gan.artifacts import load_directions
from saliency_gan.bundled import directions_folder
from saliency_gan.config import MasksConfig
from saliency_gan.devices import make_fabric
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_generator
from saliency_gan.images import ImageArray, to_uint8
from saliency_gan.masks.filters import Mask, clean, rejected_by
from saliency_gan.masks.rules import SHIFTS, RuleName, brightness, object_masks
from saliency_gan.runs import random_stream, sha256_of

STREAM_CANDIDATE = 20
"""First part of the key of each candidate's random stream, apart from those of the other stages."""


@dataclass(frozen=True)
class Candidate:
    """One drawn image with its mask and the verdict on it.

    Attributes:
        number: Position in the order of the seed; `draw_latents` draws its z and c again.
        class_name: Its class.
        image: G(z, c), uint8 [H, W, 3].
        mask: The cleaned mask, uint8 [H, W], 1 on the object.
        rejected_by: The check that rejected it; None for an accepted pair.
    """

    number: int
    class_name: str
    image: ImageArray
    mask: Mask
    rejected_by: str | None


@dataclass(frozen=True)
class Rendered:
    """Images of a batch of candidates, float [N, C, H, W] in [-1, 1], and their classes, int64 [N].

    Attributes:
        classes: c.
        plain: G(z, c).
        plus: G(z + h_bg, c).
        minus: G(z - h_bg, c) where the rule looks at it.
    """

    classes: Tensor
    plain: Tensor
    plus: Tensor
    minus: Tensor | None


class CandidateSource:
    """The generator, the background direction and the rule of a run, ready to draw candidates.

    Args:
        config: The stage's settings.

    Attributes:
        generator: G, frozen.
        identity: Name and sha256 of the generator and sha256 of the directions, as manifest.json records them.
        polarity: What h_bg turns the background into.
        shift: Magnitude of the shift.

    Raises:
        UserError: If a setting is out of range, or generator and directions are missing or do not belong together.
    """

    def __init__(self, config: MasksConfig) -> None:
        check_settings(config)
        self.config = config
        self.generator = load_generator(config.generator, config.weights, config.truncation, config.ablate_units)
        folder = find_directions(config)
        directions = load_directions(folder)
        directions.check_generator(self.generator)
        self.identity = {
            "generator": {"name": self.generator.name, "sha256": self.generator.sha256},
            "directions_sha256": sha256_of(folder / "directions.safetensors"),
        }
        self.polarity = directions.background.polarity
        self.shift = directions.background.shift if config.shift is None else config.shift
        self._among = self.generator.class_indices(config.classes)
        self._fabric = make_fabric(config.device, config.precision)
        self._offset = (self.shift * directions.background_vector).to(self._fabric.device)
        self.generator.to(self._fabric.device).to(memory_format=torch.channels_last)

    def stream(self, first: int = 0) -> Stream[Candidate, None, None]:
        """Yields candidate `first` and all that follow, accepted and rejected, in order and without end.

        Batches always begin at multiples of the batch size, so that a candidate's numbers do not depend on where a run
        began.
        """
        size = self.config.batch
        with ThreadPoolExecutor(thread_name_prefix="judge") as judging:
            for batch in itertools.count(first // size):
                for candidate in judging.map(self._judge, self._draw(batch)):
                    if candidate.number >= first:
                        yield candidate

    @torch.inference_mode()
    def render(self, numbers: Sequence[int]) -> Rendered:
        """Draws the images of the candidates with these numbers that the rule looks at."""
        latents, classes = draw_latents(self.generator, self.config.seed, numbers, self._among)
        latents, classes = latents.to(self._offset.device), classes.to(self._offset.device)
        with self._fabric.autocast():
            plain, plus, *minus = (
                self.generator(latents + sign * self._offset, classes) for sign in (0, *SHIFTS[self.config.rule])
            )
        return Rendered(classes, plain, plus, minus[0] if minus else None)

    @torch.inference_mode()
    def _draw(self, batch: int) -> list["_Drawn"]:
        size = self.config.batch
        numbers = range(batch * size, (batch + 1) * size)
        rendered = self.render(numbers)
        masks = self._masks(self.config.rule, rendered)
        second: Iterable[NDArray[np.bool_] | None] = [None] * size
        if self.config.min_agreement:
            second = self._masks("threshold" if self.config.rule == "lighting" else "lighting", rendered)
        light: Iterable[NDArray[np.float32] | None] = [None] * size
        if self.config.two_peaks:
            light = brightness(rendered.plus).cpu().numpy()
        columns = (numbers, rendered.classes.tolist(), to_uint8(rendered.plain), light, masks, second)
        return [_Drawn(*values) for values in zip(*columns, strict=True)]

    def _masks(self, rule: RuleName, rendered: Rendered) -> NDArray[np.bool_]:
        images = (rendered.plain, rendered.plus, rendered.minus)
        return object_masks(rule, *images, self.config.theta, self.config.margin, self.polarity).cpu().numpy()

    def _judge(self, drawn: "_Drawn") -> Candidate:
        mask = clean(drawn.mask, self.config)
        second = None if drawn.second is None else clean(drawn.second, self.config)
        verdict = rejected_by(mask, drawn.light, second, self.config)
        return Candidate(drawn.number, self.generator.class_names[drawn.class_index], drawn.image, mask, verdict)


@dataclass(frozen=True)
class _Drawn:
    """What the generator and the rules say about one candidate, before it is judged."""

    number: int
    class_index: int
    image: ImageArray
    light: NDArray[np.float32] | None
    mask: NDArray[np.bool_]
    second: NDArray[np.bool_] | None


def draw_latents(
    generator: Generator, seed: int, numbers: Sequence[int], among: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Draws z, float [N, latent_dim], and c, int64 [N], of the candidates with these numbers.

    Each has a random stream of its own, so that it is the same in every batch.
    """
    latents, classes = [], []
    for number in numbers:
        random = random_stream(seed, STREAM_CANDIDATE, number)
        latents.append(generator.sample_latents(1, random))
        classes.append(generator.sample_classes(1, random, among))
    return torch.cat(latents), torch.cat(classes)


def find_directions(config: MasksConfig) -> Path:
    """The directions' folder: as set, else the run's, else the bundled one of a bundled generator."""
    return config.directions or directions_folder(config.run, config.generator)


def check_settings(config: MasksConfig) -> None:
    """Refuses settings out of range.

    Raises:
        UserError: Naming the first such setting.
    """
    theta = config.theta
    checks = {
        "pairs": (config.pairs >= 1, "1 or more"),
        "batch": (config.batch >= 1, "1 or more"),
        "shard_size": (config.shard_size >= 1, "1 or more"),
        "theta": (theta == "otsu" or 0 < theta <= 1, "above 0 and at most 1, or otsu"),
        "margin": (0 <= config.margin < 1, "from 0 to below 1"),
        "max_area": (0 <= config.min_area <= config.max_area <= 1, "from min_area to 1"),
        "opening": (config.opening in (0, *range(1, 256, 2)), "0 or an odd number of pixels"),
        "min_component": (0 <= config.min_component <= 1, "from 0 to 1"),
        "max_border": (0 <= config.max_border <= 1, "from 0 to 1"),
        "min_agreement": (0 <= config.min_agreement <= 1, "from 0 to 1"),
    }
    for name, (valid, expected) in checks.items():
        if not valid:
            raise UserError(f"--{name} {getattr(config, name)} is out of range: it has to be {expected}.")
