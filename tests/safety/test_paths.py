"""Names that nobody would choose, links that lead away, things that are no files, and ten thousand of them."""

import os
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saliency_gan.cli.main import main
from saliency_gan.config import EvaluateConfig, TrainGanConfig
from saliency_gan.errors import UserError
from saliency_gan.evaluation.benchmarks import find_dataset
from saliency_gan.generators.class_folders import load_class_folders
from saliency_gan.prediction.jobs import find_jobs
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.storage.provenance import FILE as SOURCES_FILE
from saliency_gan.storage.provenance import Sources
from tests.safety.stages import NEEDS, World
from tests.saliency.toys import TINY_ARCHITECTURE

NAMES = [
    "two words", "'single' \"double\"", "back\\slash", "new\nline", "tab\tbell\a", "-leading", "--dashes", "trailing ",
    "%d", "$HOME", "~", "*?[x]", "#comment", "a: b", "日本語", "é", "e\u0301", "🦊", "\u202eright to left",
    "\x1b[31mred", "x" * 251, *([os.fsdecode(b"latin-\xe9")] if sys.platform == "linux" else []),
]  # fmt: skip
"""Of files without their suffix; e with an accent is there composed and not."""

MANY = 10_000

Predict = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SaliencyModel(TINY_ARCHITECTURE).save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def predict(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Runs predict with results in `out`; returns the exit code and the sentences on stderr."""

    def run(*words: str | Path) -> tuple[int, list[str]]:
        settings = ["--output", str(tmp_path / "out"), "--weights", str(weights), "--save", "map", "--device", "cpu"]
        code = main(["predict", *settings, *map(str, words)])
        lines = [line.rpartition("\r")[2] for line in capsys.readouterr().err.split("\n")]
        return code, [line.removeprefix("saliency-gan: ") for line in lines if line.startswith("saliency-gan: ")]

    return run


def photo(path: Path, value: int = 0) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path, "PNG")
    return path.read_bytes()


def names(folder: Path) -> list[str]:
    """All files below, hidden ones too."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() and path.name != SOURCES_FILE
    )


class TestNames:
    def test_photos_of_any_name_are_marked(self, predict: Predict, tmp_path: Path) -> None:
        for name in NAMES:
            photo(tmp_path / "in" / f"{name}.png")
        assert predict(tmp_path / "in") == (0, [])
        assert names(tmp_path / "out") == sorted(f"map/{name}.png" for name in NAMES)

    def test_what_cannot_be_read_is_named_on_one_line_without_codes(self, predict: Predict, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for name in NAMES:
            (tmp_path / "in" / f"{name}.png").touch()
        code, said = predict(tmp_path / "in")
        assert code == 1 and len(said) == len(NAMES)
        assert all(line.endswith("cannot be read as an image (it is empty).") for line in said)
        assert not any(ord(letter) < 32 for line in said for letter in line)
        assert any("/new\\nline.png" in line for line in said) and any("\\x1b[31mred" in line for line in said)

    def test_a_dash_in_front(self, predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        photo(tmp_path / "-photo.png")
        photo(tmp_path / "--save.png")
        assert predict("--", "-photo.png", "--save.png") == (0, [])
        assert names(tmp_path / "out") == ["map/--save.png", "map/-photo.png"]

    def test_long_names_that_differ_in_their_suffix_alone(self, predict: Predict, tmp_path: Path) -> None:
        for suffix in (".bmp", ".gif", ".png"):
            photo(tmp_path / "in" / ("é" * 125 + "x" + suffix))
        assert predict(tmp_path / "in") == (0, [])
        assert names(tmp_path / "out") == [f"map/{'é' * 121}-{number}.png" for number in (2, 3, 4)]

    def test_names_that_are_no_names_without_a_suffix(self, predict: Predict, tmp_path: Path) -> None:
        paths = [tmp_path / "in" / name for name in (".png", "..png", "...png")]
        for path in paths:
            photo(path)
        assert predict(*paths) == (0, [])
        assert names(tmp_path / "out") == ["map/...png.png", "map/..png.png", "map/.png.png"]

    def test_paths_that_are_too_long(self, predict: Predict, tmp_path: Path, weights: Path) -> None:
        photo(tmp_path / "photo.png")
        code, said = predict(tmp_path / "photo.png", tmp_path / ("x" * 300), tmp_path / ("x/" * 3000))
        assert code == 1 and len(said) == 2 and all("File name too long" in line for line in said)
        assert names(tmp_path / "out") == ["map/photo.png"]
        for words in (["train-gan", "--images"], ["evaluate", "--images=x", "--masks"], ["report", "--run"]):
            assert main([*words, str(tmp_path / ("x" * 300))]) in (1, 2)

    @pytest.mark.slow
    @pytest.mark.parametrize("verb", NEEDS)
    def test_every_stage_in_a_folder_of_an_odd_name(self, verb: str, odd_world: World) -> None:
        odd_world.prepare(verb)
        code, said = odd_world.finish(verb)
        assert code == 0, said
        assert odd_world.differences(verb) == []

    @pytest.fixture(scope="class")
    def odd_world(self, tmp_path_factory: pytest.TempPathFactory) -> World:
        root = tmp_path_factory.mktemp("odd") / "-a 'b' \"c\"\n%d: #日本 e\u0301 🦊 {x} [y] $HOME" / ("x" * 255)
        root.mkdir(parents=True)
        return World(root)


class TestLinks:
    def test_links_to_files_are_followed_and_those_to_folders_are_not(self, predict: Predict, tmp_path: Path) -> None:
        photo(tmp_path / "outside" / "theirs.png")
        photo(tmp_path / "in" / "own.png", 9)
        (tmp_path / "in" / "link.png").symlink_to(tmp_path / "outside" / "theirs.png")
        (tmp_path / "in" / "folder").symlink_to(tmp_path / "outside")
        (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
        code, (said,) = predict(tmp_path / "in")
        assert code == 0 and f"Links to folders are not followed ({tmp_path}/in/circle, {tmp_path}/in/folder)" in said
        assert names(tmp_path / "out") == ["map/link.png", "map/own.png"]
        assert names(tmp_path / "outside") == ["theirs.png"]

    def test_what_is_no_file_is_named(self, predict: Predict, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        photo(folder / "named.jpg" / "like a photo.png")
        (folder / "empty.png").touch()
        (folder / "self.png").symlink_to(folder / "self.png")
        (folder / "nothing.png").symlink_to(folder / "gone.png")
        (folder / "device.png").symlink_to("/dev/zero")
        os.mkfifo(folder / "pipe.png")
        os.mkfifo(folder / "pipe.mp4")
        for given in ([folder], sorted(path for path in folder.iterdir() if path.name != "named.jpg")):
            code, said = predict(*given)
            assert code == 1
            assert sorted(line.partition(".png")[0].partition(".mp4")[0].rpartition("/")[2] for line in said) == [
                "device", "empty", "nothing", "pipe", "pipe", "self",
            ]  # fmt: skip
        assert names(tmp_path / "out") == ["map/named.jpg/like a photo.png"]

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_results_replace_links_and_never_go_through_them(
        self, predict: Predict, tmp_path: Path, link: Callable[[Path, Path], None]
    ) -> None:
        photo(tmp_path / "photo.png")
        theirs = tmp_path / "theirs"
        theirs.write_text("theirs")
        (tmp_path / "out" / "map").mkdir(parents=True)
        link(theirs, tmp_path / "out" / "map" / "photo.png")
        link(theirs, tmp_path / "out" / "map" / f".photo.png.{os.getpid()}.partial")
        assert predict(tmp_path / "photo.png") == (0, [])
        assert theirs.read_text() == "theirs"
        result = tmp_path / "out" / "map" / "photo.png"
        assert result.is_file() and not result.is_symlink() and result.stat().st_nlink == 1
        assert names(tmp_path / "out") == ["map/photo.png"]

    def test_folders_that_are_links_are_written_into(self, predict: Predict, tmp_path: Path) -> None:
        photo(tmp_path / "photo.png")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
        assert predict(tmp_path / "photo.png") == (0, [])
        assert names(tmp_path / "elsewhere") == ["map/photo.png"]
        (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
        with StageFolder(TrainGanConfig(run=tmp_path / "run"), "generator") as folder:
            folder.save_checkpoint({"step": 1})
        assert (tmp_path / "elsewhere" / "generator" / "checkpoints" / "last.pt").is_file()


@pytest.mark.slow
class TestMany:
    """What is quadratic takes minutes, and what keeps more than names takes more than 10 kB a file."""

    @pytest.fixture(autouse=True)
    def bounded(self) -> Iterator[None]:
        previous = signal.signal(signal.SIGPROF, _hangs)
        signal.setitimer(signal.ITIMER_PROF, 60)  # of a core
        tracemalloc.start()
        yield
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10_000 * MANY

    def test_a_folder_of_photos(self, tmp_path: Path) -> None:
        _touch(tmp_path / "in", (f"{number:05}.jpg" for number in range(MANY)))
        jobs, problems, *_ = find_jobs([tmp_path / "in"], Sources(tmp_path / "out"))
        assert [job.name for job in jobs] == [Path(f"{number:05}") for number in range(MANY)] and problems == []

    def test_photos_that_share_a_name(self, tmp_path: Path) -> None:
        _touch(tmp_path / "in", (f"{number}/photo.jpg" for number in range(MANY)))
        jobs, *_ = find_jobs([tmp_path / "in" / str(number) / "photo.jpg" for number in range(MANY)], Sources(tmp_path))
        expected = ["photo", "photo.jpg", *(f"photo.jpg-{number}" for number in range(2, MANY))]
        assert [str(job.name) for job in jobs] == expected

    def test_class_folders(self, tmp_path: Path) -> None:
        _touch(tmp_path / "in", (f"{number % 100}/{number}.jpg" for number in range(MANY)))
        with pytest.raises(UserError, match=r"has 0 class folders with at least 2 readable images"):
            load_class_folders(tmp_path / "in", 16)
        for number in range(4):
            photo(tmp_path / "in" / str(number % 2) / f"good{number}.png")
        data = load_class_folders(tmp_path / "in", 16)
        assert len(data.images) == 4 and len(data.left_out) == MANY + 98

    def test_pairs(self, tmp_path: Path) -> None:
        _touch(tmp_path / "images", (f"{number}.jpg" for number in range(MANY)))
        _touch(tmp_path / "masks", (f"{number}.png" for number in range(5, MANY + 5)))
        config = EvaluateConfig(images=tmp_path / "images", masks=tmp_path / "masks")
        dataset = find_dataset(config)
        assert len(dataset.pairs) == MANY - 5 and len(dataset.unmatched) == 2
        with pytest.raises(UserError, match="No file has the same name"):
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / "x.png").touch()
            find_dataset(replace(config, masks=tmp_path / "other"))


def _hangs(*_: object) -> None:
    raise AssertionError(f"{MANY:,} files take too long")


def _touch(folder: Path, files: Iterable[str]) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
