"""The benchmark that a GPU runs, in miniature on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_every_row_of_the_table_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--miniature"], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    for row in (
        "`discover`", "`masks`", "the same in 2 processes", "`train-saliency`", "`train-gan`, residual",
        "`train-gan`, projected", "the saliency model, 224 px",
    ):  # fmt: skip
        assert any(one.startswith(row) for one in rows), row
