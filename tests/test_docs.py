import doctest
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import saliency_gan
from saliency_gan.cli.arguments import parse
from saliency_gan.config import STAGES

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)", page.read_text(encoding="utf-8")):
        linked = page.parent / target if target else page
        assert anchor in _anchors(linked.read_text(encoding="utf-8")), f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pipelines_are_ones_that_there_are(page: Path) -> None:
    for name in re.findall(r"(?:PIPELINE=|(?=\bpipelines/))([\w./-]+\.yaml)", page.read_text(encoding="utf-8")):
        assert name == "pipelines/NAME.yaml" or (ROOT / name).is_file(), f"{page.name} names {name}"


def test_anchors_are_githubs() -> None:
    page = (
        "# Two `words`, [a link](x.md): a-b_c & d\n\nText\n\n```\n# no heading\n```\n## Again\n### Again\n#nor this\n"
    )
    assert _anchors(page) == ["two-words-a-link-a-b_c--d", "again", "again-1"]


def _anchors(text: str) -> list[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.append(f"{anchor}-{count}" if count else anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_ones_that_there_are(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in _commands(page.read_text(encoding="utf-8")):
        config, _ = parse(words[0], words[1:])  # which raises for what there is not
        assert isinstance(config, STAGES[words[0]])


def test_the_public_functions_are_completed_in_a_shell() -> None:
    assert dir(saliency_gan) == ["load_directions", "load_generator", "load_saliency_model"]
    assert saliency_gan.__version__ == version("saliency-gan")


def test_commands_are_found_in_pages() -> None:
    page = (
        "`saliency-gan x`\n    saliency-gan a --b 'c d' \\\n        -e  # why\n    torchrun -m -- saliency_gan f g/\n"
    )
    page += "    make adapt ARGS=\"--images 'j k'\"\n    make test\n"
    assert list(_commands(page)) == [["a", "--b", "c d", "-e"], ["f", "g/"], ["adapt", "--images", "j k"]]


def _commands(text: str) -> Iterator[list[str]]:
    """Verb and settings of the commands on a page; what a shell fills in and files that are made up are left out."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = re.sub(r"--\w+ \S*(\$\w+|NAME\.yaml)\S*|--classes @\S+|\$\w+", "", line)
        if match := re.match(r" {4,}(?:saliency-gan|torchrun .* -- saliency_gan|srun .* -- saliency_gan) (\S.*)", line):
            yield shlex.split(match[1], comments=True)
        elif (match := re.match(r" {4,}make (\S+)(.*)", line)) and match[1] in STAGES:
            settings = dict(word.partition("=")[::2] for word in shlex.split(match[2], comments=True))
            yield [match[1], *["photos/"] * (match[1] == "predict"), *shlex.split(settings.get("ARGS", ""))]


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
