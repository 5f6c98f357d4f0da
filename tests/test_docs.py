import doctest
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data/README.md"]


def test_the_examples_for_python_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    failed, run = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert run > 10
    assert failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    cells = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert 0.02 < names["masks"].float().mean() < 0.8
    assert len(names["paths"]) == 4


@pytest.mark.slow
def test_the_pipeline_in_python_runs(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "examples" / "pipeline.py"))
    script["main"](ROOT / "data" / "samples" / "images", run=tmp_path / "run", steps=4, pairs=40)
    assert len(list((tmp_path / "run" / "predictions" / "cutout").iterdir())) == 43
