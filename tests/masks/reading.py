"""Reads whole sets of pairs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saliency_gan.masks.shards import ShardSet


def read_all(shards: ShardSet) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[dict[str, Any]]]:
    """All images, masks and information of a set."""
    images, masks, infos = zip(*shards, strict=True)
    return np.stack(images), np.stack(masks), list(infos)
