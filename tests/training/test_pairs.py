import multiprocessing
import os
import signal

import numpy as np
import pytest

from saliency_gan.training import pairs as module
from saliency_gan.training.augmentation import Augmentation
from saliency_gan.training.pairs import MOST_WORKERS, Mixture, Pairs, Part, worker_count
from tests.saliency.toys import discs


def test_worker_processes_make_the_same_batches() -> None:
    mixture = Mixture([Part(Pairs(*discs(20)), 6, 0.5)], Augmentation("full", 32), 0, 1)
    alone, helped = list(mixture.batches(3, 8, 0)), list(mixture.batches(3, 8, 2))
    assert len(alone) == len(helped) == 5
    for (images, masks), (other_images, other_masks) in zip(alone, helped, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(masks, other_masks)


@pytest.mark.parametrize(
    ("cores", "processes", "workers"), [(1, 1, 1), (2, 1, 1), (16, 1, 15), (64, 8, 7), (64, 1, MOST_WORKERS)]
)
def test_unasked_every_core_but_one_has_a_worker(
    cores: int, processes: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cores", lambda: cores)
    monkeypatch.setattr(module, "local_world_size", lambda: processes)
    assert worker_count(None) == workers
    assert worker_count(0) == 0


def test_workers_go_on_when_a_job_is_told_to_end() -> None:
    mixture = Mixture([Part(Pairs(*discs(20)), 6)], Augmentation("full", 32), 0, 1)
    others = set(multiprocessing.active_children())
    batches = mixture.batches(0, 12, 1)
    made = [next(batches)]
    (worker,) = set(multiprocessing.active_children()) - others
    assert os.getsid(worker.pid) == worker.pid  # out of the reach of signals to this process's group
    os.kill(worker.pid, signal.SIGINT)
    made += batches
    assert len(made) == 12
    for (images, _), (expected, _) in zip(made, mixture.batches(0, 12, 0), strict=True):
        np.testing.assert_array_equal(images, expected)


def test_a_batch_depends_on_its_number_and_key_alone() -> None:
    pairs, augmentation = Pairs(*discs(20)), Augmentation("flips", 32)
    mixture = Mixture([Part(pairs, 6)], augmentation, 0, 1)
    late = next(mixture.batches(5, 6, 0))
    np.testing.assert_array_equal(late[0], list(mixture.batches(0, 6, 0))[5][0])
    assert not np.array_equal(late[0], mixture[4][0])
    assert not np.array_equal(late[0], Mixture([Part(pairs, 6)], augmentation, 0, 2)[5][0])


def test_every_batch_mixes_the_parts_as_asked() -> None:
    bright = Pairs(np.full((5, 16, 16, 3), 200, np.uint8), np.full((5, 16, 16), 255, np.uint8))
    dark = Pairs(np.zeros((3, 32, 32, 3), np.uint8), np.zeros((3, 32, 32), np.uint8))
    images, masks = Mixture([Part(bright, 5), Part(dark, 3)], Augmentation("none", 32), 0)[0]
    assert images.shape == (8, 32, 32, 3)
    assert (images == 200).all(axis=(1, 2, 3)).sum() == 5
    np.testing.assert_array_equal(masks.all(axis=(1, 2)), (images > 0).all(axis=(1, 2, 3)))


def test_all_pairs_are_drawn() -> None:
    images = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    pairs = Pairs(images, images[:, :, :, 0])
    mixture = Mixture([Part(pairs, 8)], Augmentation("none", 1), 0)
    drawn = np.concatenate([mixture[number][0] for number in range(20)])
    assert set(drawn.ravel().tolist()) == set(range(12))
