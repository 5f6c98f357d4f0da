import subprocess
import sys
from pathlib import Path

import pytest

from saliency_gan.config import MasksConfig
from saliency_gan.storage.bundled import bundled_folder, directions_folder

NAME = "biggan-caltech101-64"


def test_a_run_without_directions_takes_the_bundled_ones(tmp_path: Path) -> None:
    assert directions_folder(tmp_path, NAME) == bundled_folder(NAME)
    assert MasksConfig(run=tmp_path, generator=NAME).reads() == [bundled_folder(NAME)]
    assert all(path.exists() for path in MasksConfig(run=tmp_path, generator=NAME).reads())


def test_a_run_of_its_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "discover").mkdir()
    assert directions_folder(tmp_path, NAME) == tmp_path / "discover"


@pytest.mark.parametrize("generator", [None, "biggan-deep-512", f"runs/{NAME}", f"../weights/{NAME}", "saliency"])
def test_elsewhere_only_the_run_counts(generator: str | None, tmp_path: Path) -> None:
    assert directions_folder(tmp_path, generator) == tmp_path / "discover"


def test_no_name_leaves_the_folder_of_weights() -> None:
    assert bundled_folder("../../../etc").parent == bundled_folder(NAME).parent


def test_it_needs_no_torch() -> None:
    script = "import sys, saliency_gan.storage.bundled; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
