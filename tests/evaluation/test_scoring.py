import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from saliency_gan.compute.processes import end_with_parent
from saliency_gan.evaluation import scoring as module
from saliency_gan.evaluation.baselines import BASELINES, centre_prior
from saliency_gan.evaluation.metrics import METRICS, score_image
from saliency_gan.evaluation.scoring import ScoringPool, fit, score_maps
from tests.jobs import launch

KEYS = [key for key in METRICS if key not in ("max_f", "mean_f")]


def examples(count):
    random = np.random.default_rng(0)
    for _ in range(count):
        truth = np.zeros((20, 24), bool)
        truth[random.integers(0, 10) :, random.integers(0, 12) :] = True
        yield random.random((20, 24)), truth, random.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def test_scores_maps_and_baselines_at_the_masks_size():
    saliency, truth, photo = next(examples(1))
    small = saliency[::2, ::2]
    scores = score_maps({"mine": small}, truth, photo, baselines=True)
    assert list(scores) == ["mine", *BASELINES]
    assert scores["mine"].mae == score_image(fit(small, (20, 24)), truth).mae
    assert scores["centre prior"].iou == score_image(centre_prior(photo), truth).iou
    assert list(score_maps({"mine": small}, truth, photo)) == ["mine"]


def test_fit_interpolates_and_stays_in_range():
    ramp = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (4, 1))
    wide = fit(ramp, (8, 16))
    assert wide.shape == (8, 16)
    np.testing.assert_allclose(wide[3, 1:-1], (np.arange(1, 15) - 0.5) / 2 / 7, atol=1e-6)
    assert wide.min() == 0
    assert wide.max() == 1
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert fit(grey, (2, 3)) is grey
    assert fit(grey, (5, 5)).dtype == np.uint8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pool_keeps_the_order(workers):
    wanted, found = [], []
    with ScoringPool(workers) as pool:
        for saliency, truth, photo in examples(40):
            wanted.append(score_image(saliency, truth))
            found += pool.submit({"mine": saliency}, truth, photo, False)
        found += pool.finish()
    for one, scores in zip(wanted, found, strict=True):
        for key in KEYS:
            assert getattr(scores["mine"], key) == getattr(one, key)


def test_few_large_maps_wait(monkeypatch):
    monkeypatch.setattr(module, "PIXELS_WAITING", 3 * 20 * 24)
    with ScoringPool(0) as pool:
        counts = [len(list(pool.submit({"mine": one}, truth, photo, False))) for one, truth, photo in examples(6)]
        assert counts == [0, 0, 0, 1, 1, 1]
        assert len(list(pool.finish())) == 3


def test_an_error_reaches_the_caller():
    with pytest.raises(ValueError, match="stay in"), ScoringPool(0) as pool:
        list(pool.submit({"mine": np.full((2, 2), 3.0)}, np.ones((2, 2), bool), None, False))
        list(pool.finish())


def test_scoring_processes_load_no_torch():
    code = "import sys, saliency_gan.evaluation.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _score_until_killed(pipe) -> None:
    with ScoringPool(1) as pool:
        image, truth, photo = next(examples(1))
        list(pool.submit({"mine": image}, truth, photo, False))
        list(pool.finish())
        pipe.send([process.pid for process in multiprocessing.active_children()])
        time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_its_processes_end_when_their_parent_is_killed():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    parent = launch(_score_until_killed, theirs)
    (worker,) = ours.recv()
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _outlive(folder: Path, method: str) -> None:
    multiprocessing.set_start_method(method, force=True)
    while os.getppid() == multiprocessing.parent_process().pid:
        time.sleep(0.02)
    (folder / f"{os.getpid()}.begun").touch()
    end_with_parent()
    (folder / f"{os.getpid()}.survived").touch()


def _start_and_die(folder: Path, method: str) -> None:
    for _ in range(2):  # a forked one inherits a pipe from the one before it
        multiprocessing.get_context(method).Process(target=_outlive, args=(folder, method)).start()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the parents' numbers")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_whose_parent_was_killed_while_they_started_end(tmp_path, method):
    launch(_start_and_die, tmp_path, method).join()
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.begun"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    assert not list(tmp_path.glob("*.survived"))
