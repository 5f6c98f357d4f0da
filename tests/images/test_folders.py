import os
from pathlib import Path
from typing import Any

import pytest

from saliency_gan.errors import UserError
from saliency_gan.images import folders
from saliency_gan.images.folders import by_name, find_images, search
from saliency_gan.storage.provenance import Source, Sources


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def close(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has the system refuse to open a folder, as it does for all but root."""
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def mark(output: Path, *results: str) -> None:
    """Results of an earlier run, of the kinds map and mask."""
    for result in results:
        touch(output, f"map/{result}.png", f"mask/{result}.png")
        Sources(output).add(result, Source("/photos/x.jpg", 1, 1), ("map", "mask"))


def names(paths: list[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_what_is_not_read_is_counted_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_gan.images.formats.has_heif", lambda: False)
    touch(tmp_path, *(f"{number}.CR2" for number in range(7)), "a.heic", "deep/b.HEIF", "c.psd", "d.jpg", "notes.txt")
    found = search(tmp_path, {".jpg"}, recursive=True)
    assert names(found.files, tmp_path) == ["d.jpg"] and len(found.unread) == 10
    assert len(found.remarks()) == 3
    said = " ".join(found.remarks())
    assert "7 raw photos skipped (0.CR2, 1.CR2, 2.CR2, 3.CR2, 4.CR2 and 2 more): develop first" in said
    assert "2 HEIC photos skipped (a.heic, b.HEIF): install what reads such, pip install 'saliency-gan[heif]'." in said
    assert "1 picture of another format skipped (c.psd): save as PNG" in said


def test_heic_is_found_where_it_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_gan.images.formats.has_heif", lambda: True)
    touch(tmp_path, "a.heic", "b.dng")
    assert names(find_images(tmp_path), tmp_path) == ["a.heic"]


def test_links_to_folders_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "photos" / "2023").symlink_to(tmp_path / "elsewhere")
    found = search(tmp_path / "photos", {".jpg"}, recursive=True)
    assert names(found.files, tmp_path / "photos") == ["a.jpg"]
    assert f"Links to folders are not followed ({tmp_path}/photos/2023): name such a folder" in found.remarks()[0]
    assert search(tmp_path / "photos", {".jpg"}, recursive=False).remarks() == []


def test_a_closed_subfolder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "deep/b.jpg", "shut/c.jpg")
    close(monkeypatch, tmp_path / "shut")
    found = search(tmp_path, {".jpg"}, recursive=True)
    assert names(found.files, tmp_path) == ["a.jpg", "deep/b.jpg"]
    (sentence,) = found.closed
    assert "shut cannot be opened (Permission denied)" in sentence
    assert not search(tmp_path, {".jpg"}, recursive=False).closed
    with pytest.raises(UserError, match=r"shut cannot be opened"):
        find_images(tmp_path, recursive=True)


def test_results_of_an_earlier_run_are_no_photos(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    touch(tmp_path, "a.jpg", "old/map.jpg", "old/notes/b.jpg", "map/c.jpg")
    mark(tmp_path / "old", "a", "deep/b")
    assert names(find_images(tmp_path, recursive=True), tmp_path) == [
        "a.jpg", "map/c.jpg", "old/map.jpg", "old/notes/b.jpg",
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Results of earlier runs are left out" in said
    assert str(tmp_path / "old" / "map") in said and str(tmp_path / "old" / "mask") in said
    assert names(find_images(tmp_path / "old" / "map", recursive=True), tmp_path) == [
        "old/map/a.png", "old/map/deep/b.png",
    ]  # fmt: skip


def test_many_results_are_not_all_named(tmp_path: Path) -> None:
    for number in range(9):
        mark(tmp_path / str(number), "a")
    (remark,) = search(tmp_path, {".png"}, recursive=True).remarks()
    assert f"and {18 - folders.NAMED} more" in remark


def test_names_match_in_any_form_of_unicode_and_in_subfolders(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    touch(tmp_path, f"one/{decomposed}/x.jpg", f"two/{composed}/x.png")
    one, two = (by_name(tmp_path / side, find_images(tmp_path / side, recursive=True)) for side in ("one", "two"))
    assert list(one) == list(two) == [f"{composed}/x"]
    touch(tmp_path / "two", f"{decomposed}/x.png")
    with pytest.raises(UserError, match="not clear which one"):
        by_name(tmp_path / "two", find_images(tmp_path / "two", recursive=True))


def test_links_are_followed_to_files_and_not_to_folders(tmp_path: Path) -> None:
    touch(tmp_path, "else/a.jpg", "in/b.jpg")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "else" / "a.jpg")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    found = search(tmp_path / "in", {".jpg"}, recursive=True)
    assert names(found.files, tmp_path / "in") == ["b.jpg", "gone.jpg", "link.jpg"]
