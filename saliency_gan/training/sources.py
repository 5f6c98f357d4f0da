"""Sources of training pairs: shards, or a generator that draws pairs on the fly."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from saliency_gan.compute.processes import own_parts
from saliency_gan.config import MasksConfig, TrainSaliencyConfig, to_plain
from saliency_gan.errors import UserError
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.storage.files import is_address
from saliency_gan.training.augmentation import Augmentation
from saliency_gan.training.pairs import Batch, Mixture, Pairs, PairSource, Part, augment

if TYPE_CHECKING:
    from saliency_gan.masks.shards import ShardSet


class Source(Protocol):
    """Pairs to train on.

    Attributes:
        identity: Names and sha256 of what the pairs were drawn from; a checkpoint only resumes with the same ones.
        held_out: Pairs for validation, without augmentation.
        position: Position in the source, if it does not follow from the step.
    """

    identity: dict[str, Any]
    held_out: Pairs
    position: int

    @property
    def typical(self) -> PairSource:
        """Pairs like the training pairs, to measure batch statistics with."""

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yields this process's part of the augmented batches for steps `first` to `last - 1`."""


def open_source(config: TrainSaliencyConfig, masks: MasksConfig | None) -> Source:
    """Opens the source that `config.source` names.

    Raises:
        UserError: If the source cannot be used, or holds too few pairs.
    """
    if config.source == "shards":
        return ShardSource(config)
    if masks is None:
        raise UserError("source is generator, but no masks settings were given: pass a MasksConfig, or take shards.")
    return GeneratorSource(config, masks)


class ShardPairs:
    """Pairs that stay in their shards until they are used, so any number of them takes hardly any memory.

    Args:
        shards: The shards.
        places: Rows of `ShardSet.places`.
    """

    def __init__(self, shards: "ShardSet", places: NDArray[np.int64]) -> None:
        self._shards, self._places = shards, places

    def __len__(self) -> int:
        return len(self._places)

    def subset(self, indices: Sequence[int]) -> Pairs:
        """Reads the pairs at `indices`.

        Raises:
            UserError: If a shard cannot be read any more, or is damaged.
        """
        return Pairs(*self._shards.read(self._places[list(indices)]))

    def part(self, indices: NDArray[np.int64]) -> "ShardPairs":
        """The pairs at `indices`, without reading them."""
        return ShardPairs(self._shards, self._places[indices])


class ShardSource:
    """Pairs that the masks stage wrote."""

    def __init__(self, config: TrainSaliencyConfig) -> None:
        pairs, self.identity = read_shards(config.shards or config.layout.pairs(None).folder)
        if len(pairs) <= config.validation_pairs:
            raise UserError(
                f"The shards hold {len(pairs)} pairs and validation_pairs is {config.validation_pairs}, so none would"
                " be left to train on: run masks with more --pairs, or hold fewer out."
            )
        order = torch.randperm(len(pairs), generator=random_stream(config.seed, Stream.HELD_OUT_PAIRS)).numpy()
        self.held_out = pairs.subset(order[: config.validation_pairs].tolist())
        self.position = 0
        self.typical = pairs.part(order[config.validation_pairs :])
        augmentation = Augmentation(config.augment, config.resolution)
        part = Part(self.typical, config.batch, config.backdrop)
        own = own_parts(config.batch, config.accumulate)
        self._mixture = Mixture([part], augmentation, config.seed, Stream.PAIRS, own=own)
        self._workers = config.workers

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yields batches for the steps. Each batch is drawn from all pairs, so it depends only on its number."""
        return self._mixture.batches(first, last, self._workers)


class GeneratorSource:
    """Pairs that are drawn when they are needed, and used once; `position` is the generator's next candidate.

    Every process of a torchrun job draws the whole batch and uses its own part.
    """

    def __init__(self, config: TrainSaliencyConfig, masks: MasksConfig) -> None:
        from saliency_gan.masks.synthesis import PairStream

        reserve = PairStream(masks, config.validation_pairs)
        with closing(iter(reserve)) as batches:  # closing the iterator ends its threads
            self.held_out = self.typical = Pairs(*next(batches))
        self.position = reserve.position
        settings = {key: value for key, value in to_plain(masks).items() if key not in ("run", "device")}
        self.identity = {**reserve.source.identity, "masks": settings}
        self._config, self._masks = config, masks

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yields batches for the steps, from candidate `position` on, and updates `position`."""
        from saliency_gan.masks.synthesis import PairStream

        stream = PairStream(self._masks, self._config.batch, self.position)
        augmentation = Augmentation(self._config.augment, self._config.resolution)
        own = own_parts(self._config.batch, self._config.accumulate)
        with closing(iter(stream)) as drawn:
            for step in range(first, last):
                pairs = Pairs(*next(drawn))
                self.position = stream.position
                random = random_stream(self._config.seed, Stream.PAIRS, step)
                yield augment(pairs, augmentation, random, self._config.backdrop, own)


def read_shards(place: str | Path) -> tuple[ShardPairs, dict[str, Any]]:
    """Finds all pairs in a folder of shards, and the identity of what they were drawn from.

    Args:
        place: The folder, or its http or https address; see `download_shards`.

    Raises:
        UserError: If the folder, its manifest or a shard is missing or damaged.
        StageError: If it cannot be downloaded.
    """
    from saliency_gan.masks.shards import open_shards

    folder = Path(place)
    if is_address(place):
        from saliency_gan.training.shard_downloads import download_shards

        folder = download_shards(str(place))
    shards = open_shards(folder)
    drawn_with = ("generator", "directions_sha256", "painters_sha256", "pairs")
    identity = {key: shards.manifest[key] for key in drawn_with if key in shards.manifest}
    contents = hashlib.sha256(json.dumps(shards.manifest["shards"], sort_keys=True).encode()).hexdigest()
    return ShardPairs(shards, shards.places()), {**identity, "shards_sha256": contents}
