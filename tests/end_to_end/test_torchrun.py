"""The stages as docs/scale.md starts them: two processes on the CPU, under torchrun."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from saliency_gan.cli.main import main
from saliency_gan.images.reading import read_mask
from tests.end_to_end.conftest import errors_of, torchrun

pytestmark = pytest.mark.slow


def test_two_processes_discover_what_one_does(run: Path, finished: Path) -> None:
    found, expected = (
        safetensors.torch.load_file(one / "discover" / "directions.safetensors") for one in (run, finished)
    )
    torch.testing.assert_close(found["A"], expected["A"], atol=1e-3, rtol=0)
    lines = (run / "discover" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 8, 10, 12]


def test_two_processes_write_the_shards_that_one_writes(run: Path, finished: Path, world: Path) -> None:
    again = run.parent / "alone"
    shutil.copytree(run / "discover", again / "discover")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes have it: with more, sums of convolutions may differ in the last bit
    try:
        assert main(["masks", "--config", str(world / "pipeline.yaml"), "--run", str(again)]) == 0
    finally:
        torch.set_num_threads(threads)
    shards = sorted(path.name for path in (again / "masks").glob("shard-*.tar"))
    assert len(shards) == 6 and not (run / "masks" / "pieces").exists()
    for name in [*shards, "preview.png"]:
        assert (run / "masks" / name).read_bytes() == (again / "masks" / name).read_bytes(), name


def test_two_processes_train_adapt_and_evaluate(run: Path, finished: Path) -> None:
    model = safetensors.torch.load_file(run / "saliency" / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in model.values())
    for folder in ("student", "saliency-adapted"):
        assert (run / folder / "model.safetensors").exists()
    rounds = json.loads((run / "student" / "rounds.json").read_text())
    assert [one["round"] for one in rounds] == [0, 1, 2]
    (path,) = (run / "evaluation").glob("*.json")
    figures = json.loads(path.read_text())
    assert figures["model"]["n"] == 6 and np.isfinite(list(figures["model"].values())).all()
    (alone,) = (finished / "evaluation").glob("*.json")
    assert figures["baselines"] == json.loads(alone.read_text())["baselines"]


def test_two_processes_predict_what_one_does(run: Path, finished: Path) -> None:
    for kind in ("map", "mask"):
        names = sorted(path.name for path in (finished / "predictions" / kind).iterdir())
        assert names == sorted(path.name for path in (run / "predictions" / kind).iterdir()) and len(names) == 6
    for name in names:
        found, expected = (read_mask(one / "predictions" / "map" / name).astype(int) for one in (run, finished))
        assert np.abs(found - expected).max() <= 1


def test_a_job_that_is_refused_says_one_sentence(run: Path, world: Path) -> None:
    for setting in ("--K=5", "--batch=3", "--kk=1"):  # refused by one process, by both, and before there are two
        refused = torchrun(world, "discover", run, setting)
        errors = errors_of(refused)
        assert refused.returncode != 0
        said = [line for line in errors.splitlines() if line.startswith("saliency-gan: ")]
        assert len(said) == 1, errors
        assert "saliency_gan/" not in errors  # no traceback through the package
