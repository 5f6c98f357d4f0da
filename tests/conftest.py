import os
import signal
from pathlib import Path

import pytest
import torch

from saliency_gan.compute.allocator import keep_freed_memory
from saliency_gan.config import TrainSaliencyConfig
from saliency_gan.training.train_saliency import train_saliency
from tests.saliency.toys import TINY, write_faint_photos, write_photos, write_shards

keep_freed_memory()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # there is a process of tests per core


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with shards of discs, a saliency model trained on them, and photos of discs with masks."""
    run = tmp_path_factory.mktemp("trained")
    write_shards(run / "masks", 128)
    photos = write_photos(run / "photos", 6, first=1000)
    config = TrainSaliencyConfig(
        run=run, **TINY, steps=40, lr=3e-3, ema=0.9, augment="flips", validation_pairs=32, photos=photos, log_every=10
    )
    train_saliency(config)
    return run


@pytest.fixture(scope="session")
def faint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 50 faint photos to learn from, and others, with masks, to measure on."""
    folder = tmp_path_factory.mktemp("faint")
    write_faint_photos(folder / "many", 50, first=6000)
    write_faint_photos(folder / "measured", 6, first=5000)
    return folder
