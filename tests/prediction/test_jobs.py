from pathlib import Path

import pytest
from PIL import Image

from saliency_gan.prediction import jobs
from saliency_gan.prediction.jobs import Job, batches, find_jobs


def photo(path: Path, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def test_subfolders_are_left_out_where_asked(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "deep" / "b.png")
    names = {recursive: find_jobs([tmp_path / "in"], tmp_path / "out", recursive) for recursive in (True, False)}
    assert [str(job.name) for job in names[True][0]] == ["a", "deep/b"]
    assert [str(job.name) for job in names[False][0]] == ["a"]


def test_videos_are_found_and_share_names_with_photos(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "a.MP4").write_bytes(b"")
    found, problems = find_jobs([tmp_path], tmp_path / "out")
    results = {str(job.result(tmp_path / "out", "map").relative_to(tmp_path)) for job in found}
    assert results == {"out/map/a.png", "out/map/a.mp4"} and not problems


def test_a_file_is_done_when_every_result_exists(tmp_path: Path) -> None:
    job = Job(tmp_path / "a.png", Path("deep/a"))
    for kind, done in (("map", False), ("overlay", True)):
        path = job.result(tmp_path, kind)
        path.parent.mkdir(parents=True)
        path.touch()
        assert job.is_done(tmp_path, ("map", "overlay")) is done


def test_batches_are_bounded_in_photos_and_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "BATCH_PIXELS", 100)
    sides = [5, 5, 5, 5, 7, 7, 7, 20, 3]
    listed = [Job(photo(tmp_path / f"{index}.png", (side, side)), Path(str(index))) for index, side in enumerate(sides)]
    (tmp_path / "damaged.png").write_bytes(b"")
    listed.append(Job(tmp_path / "damaged.png", Path("damaged")))
    cut = [([job.name.name for job in batch.jobs], batch.large) for batch in batches(listed, 3)]
    assert cut == [
        (["0", "1", "2"], False),
        (["3", "4"], False),
        (["5", "6"], False),
        (["7"], True),
        (["8", "damaged"], False),
    ]
