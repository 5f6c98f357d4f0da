import json
from pathlib import Path

import pytest
import torch

from saliency_gan.cli.main import main
from saliency_gan.directions.annotation import clean_name
from saliency_gan.errors import UserError
from saliency_gan.results.directions import BackgroundDirection, Directions, load_directions
from saliency_gan.storage.files import sha256_of
from tests.directions.finished import finished_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished_run(tmp_path)


def annotate(run: Path, *words: str) -> int:
    return main(["annotate", "--run", str(run), *words])


def test_names_are_given_changed_and_taken_back(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run / "discover"
    before = json.loads((folder / "directions.json").read_text())
    tensors = sha256_of(folder / "directions.safetensors")
    assert annotate(run, "--direction", "2", "--name", "background") == 0
    assert annotate(run, "--direction", "5", "--name", "size  of the\tobject ") == 0
    assert load_directions(folder).names == {2: "background", 5: "size of the object"}
    capsys.readouterr()
    assert annotate(run) == 0
    assert capsys.readouterr().out.split("\n") == ["    2  background", "    5  size of the object", ""]
    assert annotate(run, "--direction", "background", "--name", "backdrop") == 0
    assert load_directions(folder).names[2] == "backdrop"
    assert annotate(run, "--direction", "size of the object", "--remove") == 0
    assert annotate(run, "--direction", "2", "--remove", "true") == 0
    after = json.loads((folder / "directions.json").read_text())
    assert after == before | {"names": {}}, "nothing else changes"
    assert sha256_of(folder / "directions.safetensors") == tensors, "masks record this digest"


def test_what_a_generator_calls_its_own_directions_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "discover"
    background = BackgroundDirection(2, 1, 6.0, "bright")
    own = {2: "L1D1", 3: "L1D2"}
    found = Directions(
        torch.eye(4), torch.eye(4)[2], background, {"name": "g", "sha256": ""}, config={"K": 2}, names=own
    )
    found.save(folder)
    assert annotate(tmp_path, "--direction", "L1D1", "--name", "brightness") == 0
    assert "direction 2 is called L1D1: brightness" in capsys.readouterr().out
    assert annotate(tmp_path, "--direction", "0", "--name", "size: large") == 0
    named = load_directions(folder)
    assert named.names == {0: "size: large", 2: "L1D1: brightness", 3: "L1D2"}
    assert [named.index_of(name) for name in ("L1D1", "L1D1: brightness", "L1D2", "size: large")] == [2, 2, 3, 0]
    with pytest.raises(UserError, match="No direction is called 'size'"):
        named.index_of("size")
    assert annotate(tmp_path, "--direction", "L1D1", "--name", "L1D1: colour") == 0
    assert load_directions(folder).names[2] == "L1D1: colour"
    assert annotate(tmp_path, "--direction", "L1D1", "--remove") == 0
    assert load_directions(folder).names[2] == "L1D1"


def test_the_gallery_shows_names_and_escapes_them(run: Path) -> None:
    page = run / "discover" / "gallery" / "index.html"
    assert "direction 0</h2>" in page.read_text()
    assert annotate(run, "--direction", "0", "--name", "<b>pose & size") == 0
    assert "<h2>2. &lt;b&gt;pose &amp; size (direction 0)</h2>" in page.read_text()
    assert annotate(run, "--direction", "0", "--remove") == 0
    assert "pose" not in page.read_text()


def test_a_run_without_a_gallery_gets_none(run: Path) -> None:
    (run / "discover" / "gallery" / "index.html").unlink()
    (run / "discover" / "gallery").rmdir()
    assert annotate(run, "--direction", "0", "--name", "pose") == 0
    assert not (run / "discover" / "gallery").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--direction", "6", "--name", "a"], "no direction 6 among K = 6"),
        (["--direction", "-1", "--name", "a"], "no direction -1"),
        (["--direction", "pse", "--name", "a"], "did you mean 'pose'"),
        (["--direction", "1", "--name", "pose"], "Direction 0 is called 'pose' already"),
        (["--direction", "1"], "either --name NAME or --remove"),
        (["--direction", "1", "--name", "a", "--remove"], "either --name NAME or --remove"),
        (["--name", "a"], "give --direction"),
        (["--remove"], "give --direction"),
        (["--direction", "1", "--name", "17"], "taken for an index"),
        (["--direction", "1", "--name", "x" * 41], "1 to 40 visible characters"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    run: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    annotate(run, "--direction", "0", "--name", "pose")
    assert annotate(run, *words) == 2
    assert sentence in capsys.readouterr().err
    assert load_directions(run / "discover").names == {0: "pose"}


NUMBERS = ["17", "-3", "+4", "012", "0x10", "1_2", "1:30"]


@pytest.mark.parametrize("name", ["", "  ", *NUMBERS, "#1 hair", "~", "yes", "None", "null", "a\u202eb", "a\x00b"])
def test_unusable_names(name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be used|would be taken"):
        clean_name(name)


def test_names_are_composed_and_otherwise_stay() -> None:
    assert clean_name("2026-13-45") == "2026-13-45"
    assert clean_name(" Gro\u0308\u00dfe ") == "Gr\u00f6\u00dfe"


def test_a_run_without_names_says_how_to_give_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert annotate(run) == 0
    assert "--direction and --name" in capsys.readouterr().out
    assert annotate(run.parent / "nowhere") == 2


@pytest.mark.parametrize("names", [{"6": "a"}, {"-1": "a"}, {"a": "b"}, ["a"], {"1": "a", "2": "a"}])
def test_names_of_no_direction_are_refused(run: Path, names: object) -> None:
    path = run / "discover" / "directions.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"names": names}))
    with pytest.raises(UserError, match=r"names|usable"):
        load_directions(run / "discover")
