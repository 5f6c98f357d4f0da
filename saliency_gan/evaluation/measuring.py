"""Measures any number of map makers on a dataset in one pass over its photos."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.errors import StageError, UserError
from saliency_gan.evaluation.benchmarks import BENCHMARKS, Dataset, Pair, read_truth
from saliency_gan.evaluation.metrics import Map, SaliencyMetrics
from saliency_gan.evaluation.scoring import ScoringPool
from saliency_gan.images import ImageArray, UnreadableImageError, read_image, read_mask

PAIRS_WORTH_PROCESSES = 100
"""With fewer pairs, starting processes takes longer than what they save."""


@dataclass(frozen=True)
class Example:
    """A pair, read.

    Attributes:
        pair: Where it came from.
        truth: The drawn mask, bool [H, W].
        photo: RGB, uint8 [H', W', 3]; None where there is no photo.
        map: The finished saliency map, uint8 [H'', W'']; None where a model makes it.
    """

    pair: Pair
    truth: NDArray[np.bool_]
    photo: ImageArray | None
    map: NDArray[np.uint8] | None


MapMaker = Callable[[Sequence[Example]], Sequence[Map]]
"""Gives one saliency map an example, uint8 or float in [0, 1], of any size."""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        metrics: One collection a map maker and baseline, in this order; its images are in the order of `pairs`.
        pairs: The pairs that could be read.
        skipped: One sentence a pair that could not.
    """

    metrics: dict[str, SaliencyMetrics]
    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...]


def measure(
    dataset: Dataset, makers: Mapping[str, MapMaker], baselines: bool, batch: int, workers: int | None = None
) -> Measured:
    """Measures every map maker, and the baselines where asked for, on all pairs.

    Args:
        dataset: The pairs.
        makers: What makes the maps, by name.
        baselines: Measure the baselines on the photos as well.
        batch: Pairs that a map maker gets at once.
        workers: Processes that score; 0 for none; None takes one a core from PAIRS_WORTH_PROCESSES pairs on.

    Raises:
        UserError: If a file of a benchmark cannot be read, none of a person's own can, or all masks are empty.
        StageError: If a scoring process dies.
    """
    if workers is None:
        workers = (os.cpu_count() or 1) if len(dataset.pairs) >= PAIRS_WORTH_PROCESSES else 0
    metrics: dict[str, SaliencyMetrics] = {}
    pairs: list[Pair] = []
    skipped: list[str] = []
    foreground = False

    def collect(scores: Mapping) -> None:
        for name, one in scores.items():
            metrics.setdefault(name, SaliencyMetrics()).add(one)

    try:
        with (
            ScoringPool(workers) as pool,
            tqdm(dataset.pairs, f"measuring on {dataset.name}", unit="photo") as progress,
        ):
            for start in range(0, len(dataset.pairs), batch):
                some = dataset.pairs[start : start + batch]
                examples = [example for pair in some if (example := _read(pair, dataset, skipped)) is not None]
                made = {name: maker(examples) for name, maker in makers.items()} if examples else {}
                for number, example in enumerate(examples):
                    maps = {name: maps_of_all[number] for name, maps_of_all in made.items()}
                    for scores in pool.submit(maps, example.truth, example.photo, baselines):
                        collect(scores)
                    foreground |= bool(example.truth.any())
                    pairs.append(example.pair)
                progress.update(len(some))
            for scores in pool.finish():
                collect(scores)
    except BrokenProcessPool:
        raise StageError(
            "A process that scores died, perhaps for lack of memory: run it again with --workers 0."
        ) from None
    if not pairs:
        raise UserError(f"None of the {len(dataset.pairs)} pairs of {dataset.name} can be read: {skipped[0]}")
    if not foreground:
        raise UserError(
            f"All masks of {dataset.name} are empty, {dataset.pairs[0].mask} for one: masks have to be 0 on the"
            " background and 255 on the object."
        )
    return Measured(metrics, tuple(pairs), tuple(skipped))


def read_example(pair: Pair) -> Example:
    """Reads the files of a pair.

    Raises:
        UnreadableImageError: If one of them cannot be read.
    """
    return Example(
        pair,
        read_truth(pair.mask),
        None if pair.photo is None else read_image(pair.photo),
        None if pair.map is None else read_mask(pair.map),
    )


def _read(pair: Pair, dataset: Dataset, skipped: list[str]) -> Example | None:
    """Reads a pair; what is unreadable ends a benchmark's run, because part of it cannot be compared."""
    try:
        return read_example(pair)
    except UnreadableImageError as error:
        if dataset.benchmark is not None:
            title = BENCHMARKS[dataset.benchmark].title
            raise UserError(f"{title} has to be complete, but {error}") from None
        skipped.append(str(error))
        return None
