"""Augmented batches of pairs, drawn and changed by worker processes while the network trains."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from saliency_gan.images import ImageArray
from saliency_gan.runs import random_stream
from saliency_gan.saliency.augmentation import Augmentation
from saliency_gan.saliency.backdrop import change_backdrop

Batch = tuple[ImageArray, ImageArray]
"""Images uint8 [N, side, side, 3] and masks uint8 [N, side, side], 0 to 255."""


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


@dataclass(frozen=True)
class Part:
    """What one set of pairs gives to every batch.

    Attributes:
        pairs: The set.
        count: Pairs of it in a batch.
        backdrop: Share of them whose objects are put onto other grounds, 0 to 1; see `change_backdrop`.
    """

    pairs: Pairs
    count: int
    backdrop: float = 0.0


class Mixture(Dataset[Batch]):
    """An endless sequence of augmented batches; batch `number` is the same whenever and wherever it is made.

    Args:
        parts: What goes into every batch.
        augmentation: What is done to a pair.
        key: Key of the random streams; the batch's number is added to it.
    """

    def __init__(self, parts: Sequence[Part], augmentation: Augmentation, *key: int) -> None:
        self._parts = [part for part in parts if part.count]
        self._augmentation = augmentation
        self._key = key

    def __getitem__(self, number: int) -> Batch:
        random = random_stream(*self._key, number)
        batches = []
        for part in self._parts:
            drawn = torch.randint(len(part.pairs), (part.count,), generator=random).tolist()
            batches.append(augment(part.pairs.subset(drawn), self._augmentation, random, part.backdrop))
        images, masks = zip(*batches, strict=True)
        return np.concatenate(images), np.concatenate(masks)

    def batches(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        """Yields batches `first` to `last - 1`, made ahead of time by `workers` processes, or in this one if 0."""
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


def augment(pairs: Pairs, augmentation: Augmentation, random: torch.Generator, backdrop: float = 0.0) -> Batch:
    """Augments every pair once, after putting the objects of a share `backdrop` of them onto other grounds."""
    changed = []
    for image, mask in zip(pairs.images, pairs.masks, strict=True):
        if backdrop and torch.rand((), generator=random) < backdrop:
            seed = int(torch.randint(2**63 - 1, (), generator=random))
            image, mask = change_backdrop(image, mask, pairs.images, np.random.default_rng(seed))
        changed.append(augmentation(image, mask, random))
    return np.stack([image for image, _ in changed]), np.stack([mask for _, mask in changed])


def _as_it_is(batch: Any) -> Any:
    return batch


def _prepare_worker(_: int) -> None:
    """One thread a worker; Ctrl-C is left to the main process, which ends its workers."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
