"""Random numbers that depend only on a key, so that a resumed run draws the same numbers as an uninterrupted one."""

from enum import IntEnum, auto

import numpy as np
import torch


class Stream(IntEnum):
    """The purpose of random numbers. It is the second part of a key, after the seed, so that no two purposes share a
    stream."""

    DEFORMATOR = 0
    DISCOVERY_STEP = auto()
    RCA = auto()
    BACKGROUND = auto()
    OPTIMISE = auto()
    GALLERY = auto()
    WALK = auto()
    EIGEN = auto()
    GAN_WEIGHTS = 10
    GAN_STEP = auto()
    GAN_SAMPLES = auto()
    GAN_STATISTICS = auto()
    CANDIDATE = 20
    HELD_OUT_PAIRS = 30
    PAIRS = auto()
    STATISTICS = auto()
    PHOTOS = auto()
    EXPORT_IMAGES = 39
    RATED = 40
    RATER = auto()
    OPINIONS = auto()
    EXAMPLES = 50
    GENERATOR_CHECK = 60
    EXPLORING = 70
    EDITING = auto()
    DISSECTION = 80
    UNIT_INTERVALS = auto()
    RANDOM_UNITS = auto()
    PAINTERS = auto()
    REGIONS = auto()
    UNIT_PROBE = 90


def random_stream(*key: int) -> torch.Generator:
    """A CPU random generator that depends only on `key`, for example (seed, Stream.DISCOVERY_STEP, step).

    Every step and every sample draws from its own stream, so a resumed run repeats the numbers of an uninterrupted one
    without any random state in its checkpoint. Keys of different length never share a stream.
    """
    # SeedSequence pads short keys with zeros, so (1,) and (1, 0) would be the same without the length in front.
    words = np.array([len(key), *key], dtype=np.int64).view(np.uint32)
    return torch.Generator().manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
