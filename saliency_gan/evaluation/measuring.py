"""Measures any number of map makers on a dataset in one pass over its photos."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.compute.processes import cores, gather, is_main, local_world_size, share
from saliency_gan.errors import StageError, UserError
from saliency_gan.evaluation.benchmarks import BENCHMARKS, BenchmarkPair, Dataset
from saliency_gan.evaluation.metrics import Map, SaliencyMetrics
from saliency_gan.evaluation.scoring import Scores, ScoringPool
from saliency_gan.images import ImageArray
from saliency_gan.images.reading import UnreadableImageError, read_image, read_mask, read_truth

PAIRS_WORTH_PROCESSES = 100
"""With fewer pairs, starting processes takes longer than the time that they save."""


@dataclass(frozen=True)
class Example:
    """A pair whose files were read.

    Attributes:
        pair: The paths of the files.
        truth: The ground-truth mask, bool [H, W].
        photo: RGB, uint8 [H', W', 3]; None if there is no photo.
        map: The finished saliency map, uint8 [H'', W'']; None if a model makes the map.
    """

    pair: BenchmarkPair
    truth: NDArray[np.bool_]
    photo: ImageArray | None
    map: NDArray[np.uint8] | None


MapMaker = Callable[[Sequence[Example]], Sequence[Map]]
"""Returns one saliency map for each example, uint8 or float in [0, 1], of any size."""


@dataclass(frozen=True)
class Measured:
    """The results of a measurement.

    Attributes:
        metrics: One collection for each map maker and baseline, in this order; its images are in the order of `pairs`.
        pairs: The pairs that could be read.
        skipped: One sentence for each pair that could not be read.
    """

    metrics: dict[str, SaliencyMetrics]
    pairs: tuple[BenchmarkPair, ...]
    skipped: tuple[str, ...]


def measure(
    dataset: Dataset, makers: Mapping[str, MapMaker], baselines: bool, batch: int, workers: int | None = None
) -> Measured | None:
    """Measures every map maker, and the baselines if asked for, on all pairs.

    Args:
        dataset: The pairs.
        makers: Name -> map maker.
        baselines: Measure the baselines on the photos as well.
        batch: Number of pairs that a map maker gets at once.
        workers: Number of processes that score; 0 for none. None takes one per core if there are at least
            PAIRS_WORTH_PROCESSES pairs.

    Returns:
        The results. Each process of a torchrun job measures a part of the pairs. The main process gets all results, the
        others get None.

    Raises:
        UserError: If a file of a benchmark cannot be read, none of the user's own files can be read, or all masks are
            empty.
        StageError: If a scoring process dies.
    """
    mine = share(dataset.pairs)
    if workers is None:
        workers = max(1, cores() // local_world_size()) if len(mine) >= PAIRS_WORTH_PROCESSES else 0
    read: list[tuple[BenchmarkPair, bool] | str] = []
    scored: list[Scores] = []
    try:
        with ScoringPool(workers) as pool, tqdm(mine, f"measuring on {dataset.name}", unit="photo") as progress:
            for start in range(0, len(mine), batch):
                some = mine[start : start + batch]
                found = [_read(pair, dataset) for pair in some]
                read += [one if isinstance(one, str) else (one.pair, bool(one.truth.any())) for one in found]
                examples = [one for one in found if not isinstance(one, str)]
                made = {name: maker(examples) for name, maker in makers.items()} if examples else {}
                for number, example in enumerate(examples):
                    maps = {name: maps_of_all[number] for name, maps_of_all in made.items()}
                    scored += pool.submit(maps, example.truth, example.photo, baselines)
                progress.update(len(some))
            scored += pool.finish()
    except BrokenProcessPool:
        raise StageError(
            "A process that scores died, perhaps for lack of memory: run it again with --workers 0."
        ) from None
    results = iter(scored)
    everything = gather([one if isinstance(one, str) else (*one, next(results)) for one in read])
    return _combine(dataset, everything) if is_main() else None


def _combine(dataset: Dataset, everything: Sequence[tuple[BenchmarkPair, bool, Scores] | str]) -> Measured:
    """Sorts the results of all pairs by map maker."""
    metrics: dict[str, SaliencyMetrics] = {}
    skipped = tuple(one for one in everything if isinstance(one, str))
    measured = [one for one in everything if not isinstance(one, str)]
    for _, _, scores in measured:
        for name, one in scores.items():
            metrics.setdefault(name, SaliencyMetrics()).add(one)
    if not measured:
        raise UserError(f"None of the {len(dataset.pairs)} pairs of {dataset.name} can be read: {skipped[0]}")
    if not any(foreground for _, foreground, _ in measured):
        raise UserError(
            f"All masks of {dataset.name} are empty, {dataset.pairs[0].mask} for one: masks have to be 0 on the"
            " background and 255 on the object."
        )
    return Measured(metrics, tuple(pair for pair, _, _ in measured), skipped)


def read_example(pair: BenchmarkPair) -> Example:
    """Reads the files of a pair.

    Raises:
        UnreadableImageError: If one of them cannot be read, or is turned by 90 degrees.
    """
    truth = read_truth(pair.mask)
    photo = None if pair.photo is None else read_image(pair.photo)
    map_ = None if pair.map is None else read_mask(pair.map)
    for path, image in ((pair.photo, photo), (pair.map, map_)):
        if image is not None:
            _refuse_turned(pair.mask, truth, path, image)
    return Example(pair, truth, photo, map_)


def _refuse_turned(mask: Path, truth: NDArray[np.bool_], path: Path | None, image: NDArray[np.uint8]) -> None:
    (height, width), size = truth.shape, image.shape[:2]
    if height != width and size == (width, height):
        raise UnreadableImageError(
            f"{mask} has {width} x {height} pixels and {path} {height} x {width}: turn one of them by 90 degrees."
        )


def _read(pair: BenchmarkPair, dataset: Dataset) -> Example | str:
    """Reads a pair, or returns a sentence that says why it cannot be read.

    For a benchmark, an unreadable file is an error, because figures on a part of it cannot be compared.
    """
    try:
        return read_example(pair)
    except UnreadableImageError as error:
        if dataset.benchmark is not None:
            title = BENCHMARKS[dataset.benchmark].title
            raise UserError(f"{title} has to be complete, but {error}") from None
        return str(error)
