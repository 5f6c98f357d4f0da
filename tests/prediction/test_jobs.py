import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from saliency_gan.prediction import jobs
from saliency_gan.prediction.jobs import Job, batches, find_jobs
from saliency_gan.storage.provenance import Source, Sources


def photo(path: Path, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def job_of(path: Path, name: str) -> Job:
    return Job(path, Path(name), Source.of(path))


def test_subfolders_are_left_out_where_asked(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "deep" / "b.png")
    names = {
        recursive: find_jobs([tmp_path / "in"], Sources(tmp_path / "out"), recursive) for recursive in (True, False)
    }
    assert [str(job.name) for job in names[True][0]] == ["a", "deep/b"]
    assert [str(job.name) for job in names[False][0]] == ["a"]


def test_videos_are_found_and_share_names_with_photos(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "a.MP4").write_bytes(b"")
    found, problems, *_ = find_jobs([tmp_path], Sources(tmp_path / "out"))
    results = {str(job.result(tmp_path / "out", "map").relative_to(tmp_path)) for job in found}
    assert results == {"out/map/a.png", "out/map/a.mp4"} and not problems


def test_source_code_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "film.ts").write_bytes(b"G\x40\x11\x10")
    (tmp_path / "page.ts").write_text("export const answer = 42;")
    found, problems, *_ = find_jobs([tmp_path], Sources(tmp_path / "out"))
    assert [job.path.name for job in found] == ["film.ts"] and not problems


def test_a_file_is_done_when_every_result_exists(tmp_path: Path) -> None:
    job = job_of(photo(tmp_path / "a.png"), "deep/a")
    sources = Sources(tmp_path)
    for kind in ("map", "overlay"):
        assert not job.is_done(sources, ("map", "overlay"))
        path = job.result(tmp_path, kind)
        path.parent.mkdir(parents=True)
        path.touch()
    assert not job.is_done(sources, ("map", "overlay"))  # nobody knows of what they are
    sources.add(job.key, job.source, ("map", "overlay"))
    assert job.is_done(sources, ("map", "overlay")) and job.is_done(Sources(tmp_path), ("map", "overlay"))
    changed = job_of(photo(tmp_path / "a.png", (9, 9)), "deep/a")
    assert not changed.is_done(sources, ("map", "overlay"))
    sources.add(changed.key, changed.source, ("overlay",))
    for known in (sources, Sources(tmp_path)):  # the map is still that of the photo as it was
        assert changed.is_done(known, ("overlay",)) and not changed.is_done(known, ("map",))
    sources.add(changed.key, changed.source, ("map",))
    assert changed.is_done(Sources(tmp_path), ("map", "overlay"))


def names_of(paths: list[Path], output: Path) -> list[str]:
    """Names of results, all of which are then made."""
    sources = Sources(output)
    jobs, *_ = find_jobs(paths, sources)
    output.mkdir(exist_ok=True)
    for job in jobs:
        sources.add(job.key, job.source, ("map",))
    return [str(job.name) for job in jobs]


def test_names_do_not_depend_on_what_else_is_in_the_call(tmp_path: Path) -> None:
    twins = [photo(tmp_path / "in" / name) for name in ("a.jpg", "A.png", "b.png")]
    assert names_of([tmp_path / "in"], tmp_path / "out") == ["A.png", "a.jpg", "b"]
    for order in (twins, twins[::-1]):
        assert [names_of([path], tmp_path / "loop") for path in order] == [
            [{"a.jpg": "a.jpg", "A.png": "A.png", "b.png": "b"}[path.name]] for path in order
        ]


def test_no_result_is_taken_from_another_file(tmp_path: Path) -> None:
    first = photo(tmp_path / "in" / "a.png")
    assert names_of([first], tmp_path / "out") == ["a"]
    second = photo(tmp_path / "in" / "a.jpg")
    assert names_of([tmp_path / "in"], tmp_path / "out") == ["a.jpg", "a.png"]
    others = [photo(tmp_path / str(size) / "b.png", (size, 4)) for size in (5, 6, 7)]
    for _ in range(2):
        assert [names_of([other], tmp_path / "out") for other in others] == [["b"], ["b.png"], ["b.png-2"]]
    second.unlink()
    (tmp_path / "in").rename(tmp_path / "moved")
    assert names_of([tmp_path / "moved"], tmp_path / "out") == ["a"]  # it is still the same photo


def by(recipe: str) -> Callable[[str, str], str]:
    return lambda _result, _kind: recipe


def test_numbers_stay_with_their_files(tmp_path: Path) -> None:
    folders = [photo(tmp_path / str(day) / "a.png", (day, 4)).parent for day in range(5, 9)]
    names = dict(zip(folders, names_of(folders, tmp_path / "out"), strict=True))
    assert list(names.values()) == ["a", "a.png", "a.png-2", "a.png-3"]
    first = photo(tmp_path / "0" / "a.png", (99, 4)).parent
    assert names_of([first, *reversed(folders)], tmp_path / "out") == ["a.png-4", *list(names.values())[::-1]]
    folders[2].rename(tmp_path / "moved")
    assert names_of([tmp_path / "moved", first], tmp_path / "out") == ["a.png-2", "a.png-4"]


def test_records_are_compacted(tmp_path: Path) -> None:
    job = job_of(photo(tmp_path / "a.png"), "a")
    photo(job.result(tmp_path, "map"))
    for number in range(80):
        sources = Sources(tmp_path, by(str(number)))
        sources.begin(job.key, job.source, ("map",))
        sources.add(job.key, job.source, ("map",))
    Sources(tmp_path).claim(("map",))
    assert len((tmp_path / ".sources.jsonl").read_text().splitlines()) == 2
    assert job.is_done(Sources(tmp_path, by("79")), ("map",)) and Sources(tmp_path).claimed == {"map"}


def test_a_moved_file_keeps_its_results(tmp_path: Path) -> None:
    job = job_of(photo(tmp_path / "in" / "a.png"), "a")
    photo(job.result(tmp_path, "map"))
    Sources(tmp_path).add(job.key, job.source, ("map",))
    (tmp_path / "in").rename(tmp_path / "moved")
    assert job_of(tmp_path / "moved" / "a.png", "a").is_done(Sources(tmp_path), ("map",))


def test_results_of_another_recipe_are_made_again(tmp_path: Path) -> None:
    job = job_of(photo(tmp_path / "a.png"), "a")
    for kind in ("map", "mask"):
        photo(job.result(tmp_path, kind))
    Sources(tmp_path, by("old")).add(job.key, job.source, ("map", "mask"))
    new = Sources(tmp_path, by("new"))
    assert not job.is_done(new, ("map",))
    new.begin(job.key, job.source, ("map",))  # a kill may come while the map is replaced
    old = Sources(tmp_path, by("old"))
    assert job.is_done(old, ("mask",)) and not job.is_done(old, ("map",))
    new.add(job.key, job.source, ("map",))
    assert job.is_done(Sources(tmp_path, by("new")), ("map",)) and job.is_done(Sources(tmp_path, by("old")), ("mask",))


def test_records_of_earlier_versions_keep_names_and_are_made_again(tmp_path: Path) -> None:
    job = job_of(photo(tmp_path / "a.png"), "a")
    line = {"result": "a", "kinds": ["map"], **asdict(job.source)}
    (tmp_path / ".sources.jsonl").write_text(json.dumps(line) + "\n")
    photo(job.result(tmp_path, "map"))
    assert Sources(tmp_path, by("new"))["a"] == job.source and Sources(tmp_path).kinds == {"map"}
    assert not job.is_done(Sources(tmp_path, by("new")), ("map",))


def test_a_line_that_a_kill_cut_is_no_trouble(tmp_path: Path) -> None:
    job = job_of(photo(tmp_path / "a.png"), "a")
    Sources(tmp_path).add(job.key, job.source, ("map",))
    for rest in ('{"result": "b", "fi', "[]\n", "\xff", '{"result": "c"}'):
        with open(tmp_path / ".sources.jsonl", "a") as file:
            file.write(rest)
        assert Sources(tmp_path)["a"] == job.source


def test_the_first_line_after_one_that_was_cut_is_kept(tmp_path: Path) -> None:
    first, second = (job_of(photo(tmp_path / f"{name}.png"), name) for name in "ab")
    Sources(tmp_path).add(first.key, first.source, ("map",))
    with open(tmp_path / ".sources.jsonl", "ab") as file:
        file.write(b'{"result": "c\xff')
    Sources(tmp_path).add(second.key, second.source, ("map",))
    assert Sources(tmp_path)["a"] == first.source and Sources(tmp_path)["b"] == second.source


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"claimed": [1, "/", "a/b"]}',
        '{"claimed": 3}',
        '{"result": "a", "kinds": {"map": 1}, "file": "x", "bytes": 1, "modified": 1}',
        '{"result": "a", "kinds": ["map"], "file": 1, "bytes": 1, "modified": 1}',
        '{"result": ["a"], "kinds": ["map"], "file": "x", "bytes": 1, "modified": 1}',
        '{"result": "a", "kinds": ["map"], "file": "x", "bytes": "1", "modified": 1}',
    ],
)
def test_records_that_somebody_else_wrote_hide_no_photo(line: str, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / ".sources.jsonl").write_text(line + "\n")
    found, problems, *_ = find_jobs([tmp_path], Sources(tmp_path))
    assert [str(job.name) for job in found] == ["a"] and not problems
    assert not Sources(tmp_path).claimed and Sources(tmp_path)["a"] is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are a thing of POSIX")
def test_a_pipe_in_place_of_the_records_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".sources.jsonl")
    assert not Sources(tmp_path).claimed


def test_batches_are_bounded_in_photos_and_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "BATCH_PIXELS", 100)
    sides = [5, 5, 5, 5, 7, 7, 7, 20, 3]
    listed = [job_of(photo(tmp_path / f"{index}.png", (side, side)), str(index)) for index, side in enumerate(sides)]
    (tmp_path / "damaged.png").write_bytes(b"")
    listed.append(job_of(tmp_path / "damaged.png", "damaged"))
    cut = [([job.name.name for job in batch.jobs], batch.large) for batch in batches(listed, 3)]
    assert cut == [
        (["0", "1", "2"], False),
        (["3", "4"], False),
        (["5", "6"], False),
        (["7"], True),
        (["8", "damaged"], False),
    ]


def test_a_photo_whose_name_changed_its_form_is_still_the_same() -> None:
    assert Source("/a/caf\u00e9.png", 5, 7).is_the_file(Source("/b/cafe\u0301.png", 5, 7))


def test_raw_photos_and_heic_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "in" / "a.jpg")
    photo(tmp_path / "in" / "b.jpg")
    for name in ("a.nef", "b.heic"):
        (tmp_path / "in" / name).touch()
    for is_read in (True, False):  # names do not depend on what is installed
        monkeypatch.setattr("saliency_gan.images.formats.has_heif", lambda is_read=is_read: is_read)
        listed = find_jobs([tmp_path / "in"], Sources(tmp_path / "out"))
        names = {job.path.name: str(job.name) for job in listed.jobs}
        assert names == {"a.jpg": "a", "b.jpg": "b.jpg"} | ({"b.heic": "b.heic"} if is_read else {})
        assert listed.unread == (1 if is_read else 2) and len(listed.remarks) == listed.unread


def test_a_file_that_only_looks_like_the_one_before_gets_a_name_of_its_own(tmp_path: Path) -> None:
    first, second = (photo(tmp_path / folder / "0001.bmp") for folder in ("a", "b"))
    for path in (first, second):
        os.utime(path, (1e9, 1e9))
    assert names_of([first], tmp_path / "out") == ["0001"]
    assert names_of([second], tmp_path / "out") == ["0001.bmp"]
    first.rename(tmp_path / "0001.bmp")
    assert names_of([tmp_path / "0001.bmp"], tmp_path / "out") == ["0001"]  # it was moved


def test_files_and_folders_of_the_user_are_never_the_place_of_a_result(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "mask" / "b.png").mkdir(parents=True)
    sources = Sources(out)
    sources.claim(("mask",))
    photo(out / "mask" / "a.png")
    photos = [photo(tmp_path / "in" / name) for name in ("a.jpg", "b.jpg", "c.png/d.jpg", "c.jpg")]
    jobs, *_ = find_jobs([*photos[:2], tmp_path / "in"], sources)
    assert [str(job.name) for job in jobs] == ["a.jpg", "b.jpg", "c.jpg", "c.png/d"]
    sources.begin("a", Source.of(photos[0]), ("mask",))  # a kill may come before the result is recorded
    assert str(find_jobs(photos[:1], Sources(out)).jobs[0].name) == "a"


def test_subfolders_with_names_of_results_are_searched_if_they_are_the_user_s(tmp_path: Path) -> None:
    for name in ("a.png", "overlay/b.png"):
        photo(tmp_path / name)
    sources = Sources(tmp_path)
    sources.claim(("mask",))
    sources.add("a", Source.of(tmp_path / "a.png"), ("mask",))
    photo(tmp_path / "mask" / "a.png")
    assert [str(job.name) for job in find_jobs([tmp_path], sources).jobs] == ["a", "overlay/b"]


def test_a_video_and_its_thumbnail_have_records_of_their_own(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "clip.mp4.jpg")
    (tmp_path / "in" / "clip.mp4").touch()
    for _ in range(2):
        assert names_of([tmp_path / "in"], tmp_path / "out") == ["clip", "clip.mp4.jpg"]
    jobs, *_ = find_jobs([tmp_path / "in"], Sources(tmp_path / "out"))
    assert len({job.key for job in jobs}) == 2


def test_a_folder_in_the_place_of_an_earlier_result_is_reported(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.jpg")
    assert names_of([tmp_path / "in"], tmp_path / "out") == ["a"]
    photo(tmp_path / "out" / "map" / "a.png")
    photo(tmp_path / "in" / "a.png" / "deep" / "b.jpg")
    photo(tmp_path / "in" / "z.jpg")
    jobs, problems, *_ = find_jobs([tmp_path / "in"], Sources(tmp_path / "out"))
    assert [str(job.name) for job in jobs] == ["a", "z"]
    assert len(problems) == 1 and "b.jpg is left out" in problems[0] and "map/a.png is" in problems[0]
