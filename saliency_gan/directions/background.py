"""Chooses h_bg, the direction that makes the background flat and bright (or dark) and keeps the object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.criteria import combine, measure_criteria
from saliency_gan.directions.drawing import draw, draw_shifted, images_at_once
from saliency_gan.directions.optimised import optimise_direction
from saliency_gan.generators.base import Generator
from saliency_gan.images.brightness import Polarity
from saliency_gan.results.directions import BackgroundDirection
from saliency_gan.runs.random_streams import Stream, random_stream

if TYPE_CHECKING:
    from lightning_fabric import Fabric

COARSE_SAMPLES = 16
"""Number of images on which every candidate is scored first."""
FINALISTS = 24
"""Number of best candidates that are scored again on `background_samples` images."""
POLARITIES: tuple[Polarity, ...] = ("bright", "dark")


@dataclass(frozen=True)
class Choice:
    """The chosen background direction and the ranking.

    Attributes:
        background: Description of h_bg: its index, sign, shift, polarity and score.
        vector: h_bg with its sign applied, unit length, float [latent_dim].
        scores: One dict per direction of A, best first: index, rank, sign, shift, polarity, score, parts, samples.
    """

    background: BackgroundDirection
    vector: Tensor
    scores: list[dict[str, Any]]


def choose_background(
    config: DiscoverConfig, generator: Generator, matrix: Tensor, among: Sequence[int] | None, fabric: "Fabric"
) -> Choice:
    """Scores every direction with both signs at several magnitudes, and chooses the best one.

    Every candidate is scored on a few images, and the best ones again on more (see `criteria` for the parts of a
    score). If `direction` is set, it is chosen regardless of its score. `method: optimise` searches for h_bg by
    gradient descent, and chooses the polarity and magnitude with the best score.

    Args:
        config: `method`, `background_shifts`, `background_samples`, `theta`, `direction` (already an index), `sign`,
            `shift` and `seed` are used.
        generator: G, frozen, on fabric's device.
        matrix: A, float [latent_dim, K]; its columns are scored at unit length.
        among: Classes to draw from; None for all.
        fabric: Where and in which precision to compute.
    """
    jury = _Jury(config, generator, among, fabric)
    units = F.normalize(matrix.float().cpu(), dim=0).T
    scores = _rank(jury, units, config.background_shifts)
    if config.direction is not None:
        index, sign, shift = int(config.direction), config.sign, config.shift
        entry = jury.best_polarity([(units[index], sign, shift)], config.background_samples)[0]
        return Choice(_background(index, entry, "rank", "user"), sign * units[index], scores)
    if config.method == "optimise":
        vectors = [optimise_direction(config, generator, polarity, among, fabric) for polarity in POLARITIES]
        candidates = [(vector, 1, shift) for vector in vectors for shift in config.background_shifts]
        found = jury.best_polarity(candidates, config.background_samples)
        best = max(range(len(found)), key=lambda number: found[number]["score"])
        return Choice(_background(None, found[best], "optimise", "auto"), candidates[best][0], scores)
    index = scores[0]["index"]
    return Choice(_background(index, scores[0], "rank", "auto"), scores[0]["sign"] * units[index], scores)


def _background(index: int | None, entry: dict[str, Any], method: str, chosen_by: str) -> BackgroundDirection:
    known = {name: entry[name] for name in ("sign", "shift", "polarity", "score", "parts")}
    return BackgroundDirection(index, method=method, chosen_by=chosen_by, **known)


Candidate = tuple[Tensor, int, float]
"""A unit vector [latent_dim], a sign and a shift magnitude."""


class _Jury:
    """Scores all candidates on the same images. The images are spread over the classes as evenly as possible."""

    def __init__(
        self, config: DiscoverConfig, generator: Generator, among: Sequence[int] | None, fabric: "Fabric"
    ) -> None:
        random = random_stream(config.seed, Stream.BACKGROUND)
        count = config.background_samples
        allowed = torch.tensor(among if among is not None else range(generator.num_classes))
        self.classes = allowed[torch.randperm(len(allowed), generator=random)].repeat(-(-count // len(allowed)))[:count]
        self.latents = generator.sample_latents(count, random)
        self.originals = draw(generator, self.latents, self.classes, fabric)
        self.generator, self.fabric, self.theta = generator, fabric, config.theta

    def best_polarity(
        self, candidates: Sequence[Candidate], samples: int, progress: str | None = None
    ) -> list[dict[str, Any]]:
        """Returns sign, shift, polarity, score, parts and samples of every candidate, for its better polarity."""
        latents, classes, originals = self.latents[:samples], self.classes[:samples], self.originals[:samples]
        at_once = max(1, images_at_once(self.generator) // len(latents))
        found = []
        with tqdm(total=len(candidates), desc=progress, unit="shift") if progress else tqdm(disable=True) as bar:
            for start in range(0, len(candidates), at_once):
                some = candidates[start : start + at_once]
                offsets = torch.stack([sign * shift * vector for vector, sign, shift in some])
                images = draw_shifted(self.generator, latents, classes, offsets, self.fabric)
                measured = [(name, measure_criteria(originals, images, self.theta, name)) for name in POLARITIES]
                for number, (_, sign, shift) in enumerate(some):
                    options: list[dict[str, Any]] = [
                        {
                            "sign": sign,
                            "shift": shift,
                            "polarity": name,
                            "score": combine(parts[number]),
                            "parts": parts[number],
                            "samples": len(latents),
                        }
                        for name, parts in measured
                    ]
                    found.append(max(options, key=lambda option: option["score"]))
                bar.update(len(some))
        return found


def _rank(jury: _Jury, units: Tensor, shifts: Sequence[float]) -> list[dict[str, Any]]:
    """Scores all candidates coarsely, then the finalists finely. Returns one entry per direction, finalists first."""
    keys = [(index, sign, shift) for index in range(len(units)) for sign in (1, -1) for shift in shifts]

    def score(some: list[tuple[int, int, float]], samples: int, progress: str) -> list[dict[str, Any]]:
        candidates = [(units[index], sign, shift) for index, sign, shift in some]
        found = jury.best_polarity(candidates, samples, progress)
        return [{"index": key[0], **entry} for key, entry in zip(some, found, strict=True)]

    coarse = sorted(score(keys, COARSE_SAMPLES, "scoring directions"), key=lambda entry: -entry["score"])
    finalists = [(entry["index"], entry["sign"], entry["shift"]) for entry in coarse[:FINALISTS]]
    fine = sorted(score(finalists, len(jury.latents), "scoring the best"), key=lambda entry: -entry["score"])
    best: dict[int, dict[str, Any]] = {}
    for entry in fine + coarse:
        best.setdefault(entry["index"], entry)
    return [{"index": entry["index"], "rank": rank, **entry} for rank, entry in enumerate(best.values(), start=1)]
