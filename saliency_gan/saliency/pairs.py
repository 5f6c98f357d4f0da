"""Augmented batches of pairs, drawn and changed by worker processes while the network trains."""

import os
import signal
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from saliency_gan.compute.processes import cores, end_with_parent, local_world_size
from saliency_gan.images import ImageArray
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.saliency.augmentation import Augmentation
from saliency_gan.saliency.backdrop import change_backdrop

Batch = tuple[ImageArray, ImageArray]
"""Images uint8 [N, side, side, 3] and masks uint8 [N, side, side], 0 to 255."""
MOST_WORKERS = 16
"""What is taken unasked: an H200 needs about seven times what one worker makes for the default network."""


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
        """The pairs at `indices`."""
        return Pairs(self.images[indices], self.masks[indices])


class PairSource(Protocol):
    """Pairs that are drawn a few at a time: `Pairs`, or photos that stay compressed until then."""

    def __len__(self) -> int: ...

    def subset(self, indices: Sequence[int]) -> Pairs:
        """The pairs at `indices`."""
        ...


@dataclass(frozen=True)
class Part:
    """What one set of pairs gives to every batch.

    Attributes:
        pairs: The set.
        count: Pairs of it in a batch.
        backdrop: Share of them whose objects are put onto other grounds, 0 to 1; see `change_backdrop`.
    """

    pairs: PairSource
    count: int
    backdrop: float = 0.0


class Mixture(Dataset[Batch]):
    """An endless sequence of augmented batches; batch `number` is the same whenever and wherever it is made.

    Args:
        parts: What goes into every batch.
        augmentation: What is done to a pair.
        key: Key of the random streams; the batch's number is added to it.
        own: What is made of a batch, as `devices.own_parts` numbers it; None makes it whole.
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
        random = random_stream(*self._key, number)
        made: list[tuple[ImageArray, ImageArray]] = []
        first = 0
        for part in self._parts:
            drawn = torch.randint(len(part.pairs), (part.count,), generator=random).tolist()
            own = [position - first for position in self._own]
            made += _augmented(part.pairs.subset(drawn), self._augmentation, random, part.backdrop, own)
            first += part.count
        return _stack(made)

    def batches(self, first: int, last: int, workers: int | None) -> Iterator[Batch]:
        """Yields batches `first` to `last - 1`, made ahead by `worker_count(workers)` processes; in this one for 0."""
        workers = worker_count(workers)
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_prepare_worker,
            prefetch_factor=4 if workers else None,
        )
        return iter(loader)


def worker_count(asked: int | None) -> int:
    """Processes that make batches; unasked one for every core of this process's share but one, at most MOST_WORKERS."""
    return min(max(1, cores() // local_world_size() - 1), MOST_WORKERS) if asked is None else asked


def augment(
    pairs: Pairs,
    augmentation: Augmentation,
    random: torch.Generator,
    backdrop: float = 0.0,
    own: Sequence[range] | None = None,
) -> Batch:
    """Augments every pair once, after putting the objects of a share `backdrop` of them onto other grounds.

    Of the pairs that are not in `own` only the random numbers are drawn, so that the others stay the same.
    """
    wanted = range(len(pairs)) if own is None else list(chain(*own))
    return _stack(list(_augmented(pairs, augmentation, random, backdrop, wanted)))


def _augmented(
    pairs: Pairs, augmentation: Augmentation, random: torch.Generator, backdrop: float, own: Collection[int]
) -> Iterator[tuple[ImageArray, ImageArray]]:
    for number, (image, mask) in enumerate(zip(pairs.images, pairs.masks, strict=True)):
        seed = None
        if backdrop and torch.rand((), generator=random) < backdrop:
            seed = int(torch.randint(2**63 - 1, (), generator=random))
        if number not in own:
            torch.randint(2**63 - 1, (2,), generator=random)  # as many as Augmentation takes
            continue
        if seed is not None:
            image, mask = change_backdrop(image, mask, pairs.images, np.random.default_rng(seed))
        yield augmentation(image, mask, random)


def _stack(pairs: Sequence[tuple[ImageArray, ImageArray]]) -> Batch:
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def _as_it_is(batch: Any) -> Any:
    return batch


def _prepare_worker(_: int) -> None:
    """One thread a worker, which ends with the main process and leaves Ctrl-C to it.

    In a session of its own, a worker is spared the TERM that torchrun sends to the group of the main process. It still
    ends by a TERM of its own, for that is how multiprocessing gets rid of it.
    """
    end_with_parent()
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
