"""Draws, masks, cleans and checks candidate pairs, in an endless and repeatable order."""

import itertools
from collections import abc
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import MasksConfig
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_chosen
from saliency_gan.images import ImageArray
from saliency_gan.images.brightness import brightness
from saliency_gan.images.overlap import intersection_over_union
from saliency_gan.images.tensors import to_signed, to_uint8
from saliency_gan.masks.filters import Mask, clean, rejected_by
from saliency_gan.masks.masker import Masker
from saliency_gan.masks.rules import Evidence
from saliency_gan.results.directions import load_directions
from saliency_gan.results.painters import load_painters
from saliency_gan.runs.random_streams import Stream
from saliency_gan.saliency.generated import mark_generated
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.storage.files import sha256_of


@dataclass(frozen=True)
class Candidate:
    """One generated image with its mask and the verdict on it.

    Attributes:
        number: Position in the order of the random seed; `draw_latents` draws its z and c again.
        class_name: Its class.
        image: G(z, c), uint8 [H, W, 3]; for a rejected candidate [0, 0, 3], because it need not be drawn.
        mask: The cleaned mask, uint8 [H, W], 1 on the object.
        rejected_by: The check that rejected it; None for an accepted pair.
        fit: IoU of the mask with what the judge marks on the image, in [0, 1]; None without a judge, or if another
            check rejected the candidate.
    """

    number: int
    class_name: str
    image: ImageArray
    mask: Mask
    rejected_by: str | None
    fit: float | None = None


class CandidateSource:
    """Draws candidates with the generator, the background direction and the rules of a run.

    Args:
        config: The stage's settings.

    Attributes:
        generator: G, frozen.
        identity: Name and sha256 of the generator, and sha256 of the directions and the painters if a rule needs them,
            and of the judge if there is one, as in manifest.json.
        polarity: Whether h_bg turns the background bright or dark; None if no rule needs h_bg.
        shift: Magnitude of the shift; None likewise.

    Raises:
        UserError: If a setting is out of range, or if generator, directions or dissection are missing or do not belong
            together.
    """

    def __init__(self, config: MasksConfig) -> None:
        config.check()
        config = self.config = config.resolved()
        choice = config.choice
        self.generator = load_chosen(choice)
        self.identity: dict[str, Any] = {"generator": {"name": self.generator.name, "sha256": self.generator.sha256}}
        directions, painters = None, None
        if config.shifts:
            folder = config.layout.directions(config.directions, choice.name).folder
            directions = load_directions(folder)
            directions.check_generator(self.generator)
            self.identity["directions_sha256"] = sha256_of(folder / "directions.safetensors")
        if "units" in config.rules:
            painters = load_painters(config.layout.dissection(config.dissection, choice.name).folder, self.generator)
            self.identity["painters_sha256"] = painters.sha256
        self._judge = load_model(config.layout.saliency_model(config.judge).path) if config.judge else None
        if self._judge:
            self.identity["judge_sha256"] = self._judge.sha256
        self._among = self.generator.class_indices(config.classes)
        fabric = make_fabric(config.device, config.precision, shared=True)
        self.generator.to(fabric.device)
        self._autocast = fabric.autocast
        self._masker = Masker(config, self.generator, directions, painters, fabric)
        self.polarity, self.shift = self._masker.polarity, self._masker.shift

    def stream(self, first: int = 0) -> abc.Generator[Candidate, None, None]:
        """Yields candidate `first` and all later ones, accepted and rejected, in order and without end.

        Batches always begin at multiples of the batch size, so the pixels of a candidate do not depend on `first`.
        """
        size = self.config.batch
        with ThreadPoolExecutor(thread_name_prefix="check") as checking:
            for batch in itertools.count(first // size):
                for candidate in self._draw(range(batch * size, (batch + 1) * size), checking):
                    if candidate.number >= first:
                        yield candidate

    def look(self, numbers: Sequence[int]) -> Evidence:
        """Computes the inputs of the rules for the candidates with these numbers."""
        return self._masker.look(*draw_latents(self.generator, self.config.seed, numbers, self._among))

    def _draw(self, numbers: Sequence[int], checking: ThreadPoolExecutor) -> list[Candidate]:
        """Draws and checks a batch. Images that only the last checks need are drawn for what the first ones left."""
        config = self.config
        latents, classes = draw_latents(self.generator, config.seed, numbers, self._among)
        evidence = self._masker.look(latents, classes)
        masks, verdicts = self._checked(evidence, checking)
        if config.min_stability and (left := _accepted(verdicts)):
            halfway = self._masker.look_halfway(evidence.of(left), latents[left], classes[left])
            halves = checking.map(self._clean, self._masker.masks(halfway).chosen.cpu().numpy())
            for index, half in zip(left, halves, strict=True):
                if intersection_over_union(masks[index], half) < config.min_stability:
                    verdicts[index] = "min_stability"
        images: dict[int, ImageArray] = {}
        fits: dict[int, float] = {}
        if left := _accepted(verdicts):
            drawn = evidence.plain
            pictures = to_uint8(self._masker.draw(latents[left], classes[left]) if drawn is None else drawn[left])
            images = dict(zip(left, pictures, strict=True))
            if self._judge:
                fits = dict(zip(left, self._fits(self._judge, pictures, [masks[index] for index in left]), strict=True))
            for index, fit in fits.items():
                if fit < config.min_fit:
                    verdicts[index] = "min_fit"
        nothing: ImageArray = np.empty((0, 0, 3), np.uint8)
        names = [self.generator.class_names[index] for index in classes.tolist()]
        return [
            Candidate(number, name, images.get(index, nothing), mask, verdict, fits.get(index))
            for index, (number, name, mask, verdict) in enumerate(zip(numbers, names, masks, verdicts, strict=True))
        ]

    def _checked(self, evidence: Evidence, checking: ThreadPoolExecutor) -> tuple[list[Mask], list[str | None]]:
        """The cleaned masks of a batch, and the verdicts of the checks that need no other images."""
        masks = self._masker.masks(evidence)
        cleaned = list(checking.map(self._clean, masks.chosen.cpu().numpy()))
        light: Iterable[NDArray[np.float32] | None] = [None] * len(cleaned)
        if self.config.two_peaks and evidence.plus is not None:
            light = brightness(evidence.plus).cpu().numpy()
        compared: Iterable[list[Mask]] = [[]] * len(cleaned)
        if self.config.min_agreement:
            compared = ([self._clean(one) for one in each] for each in masks.by_rule.transpose(0, 1).cpu().numpy())
        checked = checking.map(partial(rejected_by, config=self.config), cleaned, light, compared)
        return cleaned, list(checked)

    def _clean(self, mask: NDArray[np.bool_]) -> Mask:
        return clean(mask, self.config)

    def _fits(self, judge: SaliencyModel, images: ImageArray, masks: Sequence[Mask]) -> list[float]:
        """IoU of each mask with what the judge marks on its image."""
        with torch.no_grad(), self._autocast():
            marked = mark_generated(judge, to_signed(images, self._masker.device)) >= 0.5
        marks = marked.to(torch.uint8).cpu().numpy()
        return [intersection_over_union(mask, mark) for mask, mark in zip(masks, marks, strict=True)]


def _accepted(verdicts: Sequence[str | None]) -> list[int]:
    return [index for index, verdict in enumerate(verdicts) if verdict is None]


def draw_latents(
    generator: Generator, seed: int, numbers: Sequence[int], among: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Draws z, float [N, latent_dim], and c, int64 [N], of the candidates with these numbers."""
    return generator.sample_each(numbers, (seed, Stream.CANDIDATE), among)
