"""Processes of a torchrun job that are killed at random moments: it restarts, and writes the same bytes.

`SALIENCY_GAN_KILLS=10 python -m pytest -m slow tests/end_to_end/test_kills.py` kills ten times per verb.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import safetensors.torch

from tests.end_to_end.conftest import SHARED_VERBS, errors_of, torchrun

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")]
KILLS = int(os.environ.get("SALIENCY_GAN_KILLS", "1"))
FOLDERS = {
    "train-gan": "generator", "discover": "discover", "masks": "masks", "train-saliency": "saliency",
    "train-student": "student", "adapt": "saliency-adapted", "evaluate": "evaluation", "predict": "predictions",
}  # fmt: skip
COMPARED = {".safetensors", ".tar", ".png"}


@pytest.mark.parametrize("verb", ["train-gan", *SHARED_VERBS])
def test_a_job_whose_processes_are_killed_writes_what_an_undisturbed_one_writes(
    run: Path, world: Path, tmp_path: Path, verb: str
) -> None:
    chance, began = random.Random(verb), time.monotonic()
    expected, _ = disturbed(world, verb, run, tmp_path / "whole", 0, chance, 0.0)
    duration, killed, attempt = time.monotonic() - began, 0, 0
    while killed < KILLS:
        attempt += 1
        assert attempt <= 10 * KILLS, "the processes end before they are killed"
        found, count = disturbed(world, verb, run, tmp_path / str(attempt), KILLS - killed, chance, duration)
        killed += count
        assert results(found / FOLDERS[verb]) == results(expected / FOLDERS[verb])
        shutil.rmtree(found)
    print(f"{verb}: {killed} kills in {attempt} runs")


def disturbed(
    world: Path, verb: str, before: Path, run: Path, kills: int, chance: random.Random, duration: float
) -> tuple[Path, int]:
    """Does a verb in a copy of the run `before` while random processes are killed.

    Returns:
        The copy, and how often torchrun noticed a kill and started the processes again.
    """
    shutil.copytree(before, run, ignore=lambda folder, _: [FOLDERS[verb]] if folder == str(before) else [])
    job = torchrun(world, verb, run, restarts=kills)
    for _ in range(kills):
        with suppress(subprocess.TimeoutExpired):
            job.wait(chance.uniform(0.2, 1.0) * duration)
        if job.poll() is not None:
            break
        if ranks := Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(chance.choice(ranks)), signal.SIGKILL)
    errors = errors_of(job)
    assert job.returncode == 0, errors
    return run, errors.count("will restart worker group")


def results(folder: Path) -> dict[str, object]:
    """Everything that a stage is run for: name -> content."""
    files = {
        str(path.relative_to(folder)): tensors_of(path) if path.suffix == ".safetensors" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in COMPARED and "checkpoints" not in path.parts
    }
    figures = {path.name: json.loads(path.read_text())["model"] for path in folder.glob("*.json") if not files}
    assert files or figures
    return files | figures


def tensors_of(path: Path) -> dict[str, bytes]:
    """The bytes of every tensor; the file's header also has the path of the run."""
    return {name: tensor.numpy().tobytes() for name, tensor in safetensors.torch.load_file(path).items()}
