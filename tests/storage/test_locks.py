import os
import subprocess
import sys
from pathlib import Path

import pytest

from saliency_gan.errors import StageError, UserError
from saliency_gan.storage import locks
from saliency_gan.storage.locks import lock_folder, open_lock, working_in

HOLD = """
import sys
from pathlib import Path
from saliency_gan.storage.locks import working_in
with working_in(Path(sys.argv[1]), "--output"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt is a file: give a folder with --output"):
        lock_folder(tmp_path / "notes.txt", "--output")


def test_a_second_process_is_refused_until_the_first_ends_or_is_killed(tmp_path: Path) -> None:
    for end in (subprocess.Popen.kill, lambda process: process.stdin.close()):
        command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            refused = pytest.raises(UserError, match=r"Another process is working in .*out: .* folder with --output\.")
            with refused, working_in(tmp_path / "out", "--output"):
                pass
            end(other)
            other.wait()
        with working_in(tmp_path / "out", "--output"):
            assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
        assert list((tmp_path / "out").iterdir()) == []


def test_half_written_files_are_removed_but_not_those_of_subfolders_or_others(tmp_path: Path) -> None:
    kept = [tmp_path / "sub" / ".x.png.12.partial", tmp_path / ".x.partial", tmp_path / "x.12.partial"]
    (tmp_path / "sub").mkdir()
    for path in (*kept, tmp_path / ".x.png.12.partial"):
        path.touch()
    with working_in(tmp_path, "--output"):
        pass
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_file_of_the_user_that_has_the_lock_s_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("mine")
    with working_in(tmp_path, "--output"):
        pass
    assert (tmp_path / ".lock").read_text() == "mine"


def test_a_lock_that_its_holder_removed_in_between_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = open_lock(tmp_path)
    (tmp_path / ".lock").unlink()
    opened = iter([removed])
    monkeypatch.setattr(locks, "open_lock", lambda folder: next(opened, None) or open_lock(folder))
    with lock_folder(tmp_path, "--run") as lock:
        assert removed.closed and os.path.samestat(os.fstat(lock.fileno()), (tmp_path / ".lock").stat())


@pytest.mark.parametrize("theirs", ["file", "nothing"])
def test_a_lock_is_never_opened_through_a_link(tmp_path: Path, theirs: str) -> None:
    if theirs == "file":
        (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(StageError, match=r"Could not write .*out \("), working_in(tmp_path / "out", "--output"):
        pass
    assert [path.name for path in tmp_path.iterdir() if path.name == "theirs"] == ["theirs"] * (theirs == "file")


@pytest.mark.slow
def test_the_saliency_model_needs_nothing_of_posix() -> None:
    without = "import sys; sys.modules['fcntl'] = sys.modules['resource'] = None"
    use = "import saliency_gan; saliency_gan.load_saliency_model(device='cpu')"
    subprocess.run([sys.executable, "-c", f"{without}; {use}"], check=True, timeout=120)
