"""Draws, masks, cleans and checks candidate pairs, in an endless and repeatable order."""

import itertools
from collections import abc
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from saliency_gan.images.tensors import to_signed, to_uint8
from saliency_gan.masks.filters import Mask, clean, intersection_over_union, rejected_by
from saliency_gan.masks.masker import Masker
from saliency_gan.masks.rules import Evidence
from saliency_gan.results.directions import load_directions
from saliency_gan.results.painters import load_painters
from saliency_gan.runs.random_streams import Stream
from saliency_gan.saliency.generated import mark_generated
from saliency_gan.saliency.model import load_model
from saliency_gan.storage.files import sha256_of


@dataclass(frozen=True)
class Candidate:
    """One generated image with its mask and the verdict on it.

    Attributes:
        number: Position in the order of the random seed; `draw_latents` draws its z and c again.
        class_name: Its class.
        image: G(z, c), uint8 [H, W, 3].
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
        fabric = make_fabric(config.device, config.precision)
        self.generator.to(fabric.device).to(memory_format=torch.channels_last)
        self._masker = Masker(config, self.generator, directions, painters, fabric)
        self.polarity, self.shift = self._masker.polarity, self._masker.shift

    def stream(self, first: int = 0) -> abc.Generator[Candidate, None, None]:
        """Yields candidate `first` and all later ones, accepted and rejected, in order and without end.

        Batches always begin at multiples of the batch size, so the pixels of a candidate do not depend on `first`.
        """
        size = self.config.batch
        with ThreadPoolExecutor(thread_name_prefix="check") as judging:
            for batch in itertools.count(first // size):
                for candidate in self._judged(list(judging.map(self._check, self._draw(batch)))):
                    if candidate.number >= first:
                        yield candidate

    def look(self, numbers: Sequence[int]) -> Evidence:
        """Computes the inputs of the rules for the candidates with these numbers."""
        return self._masker.look(*draw_latents(self.generator, self.config.seed, numbers, self._among))

    def _draw(self, batch: int) -> list["_Drawn"]:
        size = self.config.batch
        numbers = range(batch * size, (batch + 1) * size)
        latents, classes = draw_latents(self.generator, self.config.seed, numbers, self._among)
        evidence = self._masker.look(latents, classes)
        masks = self._masker.masks(evidence)
        compared = masks.by_rule if self.config.min_agreement else masks.by_rule[:0]
        light: Iterable[NDArray[np.float32] | None] = [None] * size
        if self.config.two_peaks and evidence.plus is not None:
            light = brightness(evidence.plus).cpu().numpy()
        halves: Iterable[NDArray[np.bool_] | None] = [None] * size
        if self.config.min_stability:
            halves = self._masker.masks(self._masker.look_halfway(evidence, latents, classes)).chosen.cpu().numpy()
        columns = (
            numbers,
            classes.tolist(),
            to_uint8(evidence.plain),
            light,
            masks.chosen.cpu().numpy(),
            compared.transpose(0, 1).cpu().numpy(),
            halves,
        )
        return [_Drawn(*values) for values in zip(*columns, strict=True)]

    def _check(self, drawn: "_Drawn") -> Candidate:
        mask = clean(drawn.mask, self.config)
        compared = [clean(one, self.config) for one in drawn.compared]
        half = None if drawn.half is None else clean(drawn.half, self.config)
        verdict = rejected_by(mask, drawn.light, compared, half, self.config)
        class_name = self.generator.class_names[drawn.class_index]
        return Candidate(drawn.number, class_name, drawn.image, mask, verdict)

    def _judged(self, candidates: list[Candidate]) -> list[Candidate]:
        """The same candidates; the judge measures the fit of the accepted ones and may reject them."""
        accepted = [index for index, candidate in enumerate(candidates) if candidate.rejected_by is None]
        if self._judge is None or not accepted:
            return candidates
        images = to_signed(np.stack([candidates[index].image for index in accepted]), self._masker.device)
        with torch.no_grad():
            marked = (mark_generated(self._judge, images) >= 0.5).to(torch.uint8).cpu().numpy()
        for index, mark in zip(accepted, marked, strict=True):
            fit = intersection_over_union(candidates[index].mask, mark)
            verdict = "min_fit" if fit < self.config.min_fit else None
            candidates[index] = replace(candidates[index], fit=fit, rejected_by=verdict)
        return candidates


@dataclass(frozen=True)
class _Drawn:
    """Results of the generator and the rules for one candidate, before the checks."""

    number: int
    class_index: int
    image: ImageArray
    light: NDArray[np.float32] | None
    mask: NDArray[np.bool_]
    compared: NDArray[np.bool_]
    half: NDArray[np.bool_] | None


def draw_latents(
    generator: Generator, seed: int, numbers: Sequence[int], among: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Draws z, float [N, latent_dim], and c, int64 [N], of the candidates with these numbers."""
    return generator.sample_each(numbers, (seed, Stream.CANDIDATE), among)
