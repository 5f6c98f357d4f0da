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


class Mixture(Dataset[Batch]):
    """An endless sequence of augmented batches; batch `number` is the same whenever and wherever it is made.

    Args:
        parts: Sets of pairs and how many pairs of each go into every batch.
        augmentation: What is done to a pair.
        key: Key of the random streams; the batch's number is added to it.
    """

    def __init__(self, parts: Sequence[tuple[Pairs, int]], augmentation: Augmentation, *key: int) -> None:
        self._parts = [(pairs, count) for pairs, count in parts if count]
        self._augmentation = augmentation
        self._key = key

    def __getitem__(self, number: int) -> Batch:
        random = random_stream(*self._key, number)
        batches = []
        for pairs, count in self._parts:
            drawn = torch.randint(len(pairs), (count,), generator=random).tolist()
            batches.append(augment(pairs.subset(drawn), self._augmentation, random))
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


def augment(pairs: Pairs, augmentation: Augmentation, random: torch.Generator) -> Batch:
    """Augments every pair once."""
    changed = [augmentation(image, mask, random) for image, mask in zip(pairs.images, pairs.masks, strict=True)]
    return np.stack([image for image, _ in changed]), np.stack([mask for _, mask in changed])


def _as_it_is(batch: Any) -> Any:
    return batch


def _prepare_worker(_: int) -> None:
    """One thread a worker; Ctrl-C is left to the main process, which ends its workers."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
