"""Augmented batches of pairs. Worker processes make them while the network trains."""

import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from saliency_gan.compute.processes import cores, end_with_parent, local_world_size
from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.training.augmentation import Augmentation
from saliency_gan.training.backdrop import change_backdrop

Batch = tuple[ImageArray, ImageArray]
"""Images uint8 [N, side, side, 3] and masks uint8 [N, side, side], 0 to 255."""
MOST_WORKERS = 16
"""Largest default number of workers. For the default network, an H200 needs about seven workers."""


@dataclass(frozen=True)
class Pairs:
    """Images with masks, in memory.

    Attributes:
        images: uint8 [N, H, W, 3].
        masks: uint8 [N, H, W], 0 to 255.
    """

    images: ImageArray
    masks: ImageArray

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int]) -> "Pairs":
        """Returns the pairs at `indices`."""
        return Pairs(self.images[indices], self.masks[indices])


class PairSource(Protocol):
    """Source of pairs that are read a few at a time: `Pairs`, pairs in shards, or photos that stay compressed."""

    def __len__(self) -> int: ...

    def subset(self, indices: Sequence[int]) -> Pairs:
        """Returns the pairs at `indices`."""
        ...


@dataclass(frozen=True)
class Part:
    """The part of every batch that comes from one set of pairs.

    Attributes:
        pairs: The set.
        count: Pairs of the set per batch.
        backdrop: Share of these pairs whose objects get another background, 0 to 1; see `change_backdrop`.
    """

    pairs: PairSource
    count: int
    backdrop: float = 0.0


class Mixture:
    """An endless sequence of augmented batches. A batch depends only on its number and the key.

    Args:
        parts: Parts of every batch.
        augmentation: Augmentation of each pair.
        key: Key of the random streams; the batch's number is added to it.
        own: Positions in the batch that are made, see `processes.own_parts`; None makes the whole batch.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        augmentation: Augmentation,
        *key: int,
        own: Sequence[range] | None = None,
    ) -> None:
        self._parts = [part for part in parts if part.count]
        self._augmentation = augmentation
        self._key = key
        self._own = range(sum(part.count for part in parts)) if own is None else list(chain(*own))

    def __getitem__(self, number: int) -> Batch:
        """Makes one batch.

        Raises:
            UserError: If pairs cannot be read.
        """
        random = random_stream(*self._key, number)
        made: list[tuple[ImageArray, ImageArray]] = []
        first = 0
        for part in self._parts:
            drawn = torch.randint(len(part.pairs), (part.count,), generator=random).tolist()
            own = {position - first for position in self._own}
            read = _read_once(part.pairs, drawn, own)
            made += _augmented(read, part.count, self._augmentation, random, part.backdrop, own)
            first += part.count
        return _stack(made)

    def batches(self, first: int, last: int, workers: int | None) -> Iterator[Batch]:
        """Yields batches `first` to `last - 1`. `worker_count(workers)` processes make them; 0 means this one.

        Raises:
            UserError: If pairs cannot be read.
        """
        workers = worker_count(workers)
        loader = DataLoader(
            _Reported(self),
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_prepare_worker,
            prefetch_factor=4 if workers else None,
        )
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


class _Reported(Dataset["Batch | UserError"]):
    """Batches, or why one of them cannot be made. An error that a worker raises would get its traceback as message."""

    def __init__(self, batches: Mixture) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> "Batch | UserError":
        try:
            return self._batches[number]
        except UserError as error:
            return error


def worker_count(asked: int | None) -> int:
    """Number of worker processes. Default: this process's share of the cores minus one, from 1 to MOST_WORKERS."""
    return min(max(1, cores() // local_world_size() - 1), MOST_WORKERS) if asked is None else asked


def augment(
    pairs: Pairs,
    augmentation: Augmentation,
    random: torch.Generator,
    backdrop: float = 0.0,
    own: Sequence[range] | None = None,
) -> Batch:
    """Augments every pair once. Before that, a share `backdrop` of the objects gets another background.

    Only pairs in `own` are made. For the other pairs, only random numbers are drawn, so the results do not depend on
    `own`.
    """
    count = len(pairs)
    wanted = range(count) if own is None else set(chain(*own))
    read = _read_once(pairs, range(count), wanted)
    return _stack(list(_augmented(read, count, augmentation, random, backdrop, wanted)))


def _read_once(
    pairs: PairSource, drawn: Sequence[int], own: Collection[int]
) -> Callable[[int], tuple[ImageArray, ImageArray]]:
    """A function that returns the image and the mask of a pair among `drawn`. It reads those in `own` together, and
    each of the others when it is first needed."""
    positions = [number for number in range(len(drawn)) if number in own]
    found: dict[int, tuple[ImageArray, ImageArray]] = {}

    def read(number: int) -> tuple[ImageArray, ImageArray]:
        if number not in found:
            together = positions if number in own else [number]
            some = pairs.subset([drawn[index] for index in together])
            found.update(zip(together, zip(some.images, some.masks, strict=True), strict=True))
        return found[number]

    return read


def _augmented(
    read: Callable[[int], tuple[ImageArray, ImageArray]],
    count: int,
    augmentation: Augmentation,
    random: torch.Generator,
    backdrop: float,
    own: Collection[int],
) -> Iterator[tuple[ImageArray, ImageArray]]:
    def draw_other(random: np.random.Generator) -> ImageArray:
        return read(int(random.integers(count)))[0]

    for number in range(count):
        seed = None
        if backdrop and torch.rand((), generator=random) < backdrop:
            seed = int(torch.randint(2**63 - 1, (), generator=random))
        if number not in own:
            torch.randint(2**63 - 1, (2,), generator=random)  # as many random numbers as Augmentation draws
            continue
        image, mask = read(number)
        if seed is not None:
            image, mask = change_backdrop(image, mask, draw_other, np.random.default_rng(seed))
        yield augmentation(image, mask, random)


def _stack(pairs: Sequence[tuple[ImageArray, ImageArray]]) -> Batch:
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def _as_it_is(batch: Any) -> Any:
    return batch


def _prepare_worker(_: int) -> None:
    """Prepares a worker: it uses one OpenCV thread, ends with the main process, and ignores Ctrl-C.

    A worker has its own session, so it does not get the TERM signal that torchrun sends to the group of the main
    process. A TERM signal to the worker itself still ends it, because multiprocessing uses that to stop workers.
    """
    end_with_parent()
    if hasattr(os, "setsid"):  # not on Windows
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
