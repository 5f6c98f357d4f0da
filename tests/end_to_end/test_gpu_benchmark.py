"""The benchmark that a GPU runs, in miniature on the CPU."""

import re
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
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")]
    rows = {line[1].strip(): line[4] for line in lines[1:]}
    for row in (
        "`discover`", "`masks`", "the same in 2 processes", "`train-saliency`", "`train-gan`, residual",
        "`train-gan`, projected", "the saliency model, 224 px",
    ):  # fmt: skip
        (measured,) = [measured for one, measured in rows.items() if one.startswith(row)][:1] or [""]
        assert re.search("[1-9]", measured), row
