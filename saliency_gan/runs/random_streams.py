"""Random numbers that depend on a key alone, so that a resumed run draws those of an uninterrupted one."""

import numpy as np
import torch


def random_stream(*key: int) -> torch.Generator:
    """A CPU random generator that depends on nothing but `key`, for example (seed, STREAM_STEP, step).

    Every step and every sample draws from its own stream, so a resumed run repeats the numbers of an uninterrupted one
    without any random state in its checkpoint. Keys of different length never share a stream.
    """
    # SeedSequence fills short keys up with zeros, so (1,) and (1, 0) would coincide without the length in front.
    words = np.array([len(key), *key], dtype=np.int64).view(np.uint32)
    return torch.Generator().manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
