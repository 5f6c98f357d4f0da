import errno
import hashlib
import io
import json
import os
import random
import re
import socket
import tarfile
import threading
import zipfile

import pytest

from saliency_gan.errors import StageError, UserError
from saliency_gan.generators.downloads import CHUNK, PublicFile, absent, cache_folder, fetch, pin

from .mirrors import serving

CONTENT = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def mirror(cache):
    with serving() as mirror:
        mirror.files["weights.bin"] = CONTENT
        mirror.versions["weights.bin"] = '"first"'
        yield mirror


def public(mirror, *paths, sha256=SHA256):
    return (PublicFile("weights.bin", tuple(map(mirror.url, paths or ("weights.bin",))), sha256),)


def kept(cache):
    return sorted(path.name for path in (cache / "tiny").iterdir() if path.name != ".lock")


def test_a_file_lands_in_the_cache_once_with_progress(mirror, cache, capsys):
    assert fetch("tiny", public(mirror)) == cache / "tiny"
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert "weights.bin: 100%" in capsys.readouterr().err
    fetch("tiny", public(mirror))
    assert mirror.requests == [("weights.bin", None, len(CONTENT))]
    assert kept(cache) == ["weights.bin"]


def test_the_cache_is_in_the_user_s_cache_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("SALIENCY_GAN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "saliency_gan"


def test_a_dropped_connection_is_taken_up_where_it_broke_off(mirror, cache):
    mirror.drops["weights.bin"] = [6 * CHUNK, 4 * CHUNK]
    fetch("tiny", public(mirror))
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert mirror.requests == [
        ("weights.bin", None, 6 * CHUNK),
        ("weights.bin", f"bytes={6 * CHUNK}-", 4 * CHUNK),
        ("weights.bin", f"bytes={10 * CHUNK}-", len(CONTENT) - 10 * CHUNK),
    ]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(mirror, cache):
    mirror.drops["weights.bin"] = [6 * CHUNK, 0]
    with pytest.raises(StageError, match="the connection broke off"):
        fetch("tiny", public(mirror))
    assert not (cache / "tiny" / "weights.bin").exists()
    fetch("tiny", public(mirror))
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert mirror.requests[-1] == ("weights.bin", f"bytes={6 * CHUNK}-", len(CONTENT) - 6 * CHUNK)
    assert kept(cache) == ["weights.bin"]


@pytest.mark.parametrize(("tells_size", "ranges"), [(True, ["bytes=1000000-"]), (False, ["bytes=1000000-", None])])
def test_all_bytes_received_but_not_used_yet(mirror, cache, monkeypatch, tells_size, ranges):
    mirror.tells_size = tells_size

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("saliency_gan.generators.downloads.sha256_of", fail)
        fetch("tiny", public(mirror))
    fetch("tiny", public(mirror))
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert [asked for _, asked, _ in mirror.requests] == [None, *ranges]
    assert kept(cache) == ["weights.bin"]


def test_a_server_that_cannot_go_on_in_the_middle_starts_again(mirror, cache):
    mirror.ranges = False
    mirror.drops["weights.bin"] = [400_000, 700_000]
    fetch("tiny", public(mirror))
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert [sent for *_, sent in mirror.requests] == [400_000, 700_000, 1_000_000]


def test_parts_of_two_versions_are_never_joined(mirror, cache):
    mirror.drops["weights.bin"] = [400_000, 0]
    with pytest.raises(StageError):
        fetch("tiny", public(mirror, sha256=None))
    mirror.files["weights.bin"], mirror.versions["weights.bin"] = CONTENT[::-1], '"second"'
    fetch("tiny", public(mirror, sha256=None))
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT[::-1]


def test_without_a_version_nothing_is_taken_up(mirror, cache):
    del mirror.versions["weights.bin"]
    mirror.drops["weights.bin"] = [400_000]
    fetch("tiny", public(mirror))
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert [asked for _, asked, _ in mirror.requests] == [None, None]


def test_what_a_failed_mirror_left_is_removed_once_the_file_is_there(mirror, cache):
    mirror.files["slow"], mirror.versions["slow"] = CONTENT, '"1"'
    mirror.drops["slow"] = [6 * CHUNK, 0]
    fetch("tiny", public(mirror, "slow", "weights.bin"))
    assert [path for path, *_ in mirror.requests] == ["slow", "slow", "weights.bin"]
    assert kept(cache) == ["weights.bin"]


@pytest.mark.parametrize("bad", ["gone", "corrupt", "truncated", "page"])
def test_the_next_mirror_is_tried(mirror, cache, bad):
    mirror.files |= {"corrupt": CONTENT[:-1] + b"x", "truncated": CONTENT[:-1], "page": b"<html>Log in</html>"}
    mirror.types["page"] = "text/html; charset=utf-8"
    mirror.versions |= {"corrupt": '"1"', "truncated": '"1"'}
    fetch("tiny", public(mirror, bad, "weights.bin"))
    assert [path for path, *_ in mirror.requests] == [bad, "weights.bin"]
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert kept(cache) == ["weights.bin"]


def test_when_every_mirror_fails_each_is_named_with_its_reason(mirror, cache):
    mirror.files["corrupt"] = b"rotten"
    digest = hashlib.sha256(b"rotten").hexdigest()
    with pytest.raises(StageError) as caught:
        fetch("tiny", public(mirror, "gone", "corrupt"))
    message = str(caught.value)
    assert "tiny needs weights.bin, which could not be downloaded" in message
    assert "404 Not Found; " in message and f"what it sent has sha256 {digest}, not {SHA256}" in message
    assert f"get it from {mirror.url('gone')} or {mirror.url('corrupt')} another way" in message
    assert f"put it at {cache / 'tiny' / 'weights.bin'}, or give --weights PATH" in message
    assert "\n" not in message
    assert kept(cache) == []


def test_without_a_network_the_sentence_says_where_to_put_which_file(cache, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.bin"
        with pytest.raises(
            StageError,
            match=r"\[Errno \d+\] Connection refused\): get it from .* and put it at .*/tiny/weights\.bin, or give",
        ):
            fetch("tiny", (PublicFile("weights.bin", (url,)),))
    (cache / "tiny" / "weights.bin").write_bytes(CONTENT)
    assert fetch("tiny", (PublicFile("weights.bin", (url,)),)) == cache / "tiny"


def test_a_file_without_an_address_is_asked_for(cache):
    with pytest.raises(
        StageError, match=r"has no public address\): get it from its makers and put it at .*weights\.bin"
    ):
        fetch("tiny", (PublicFile("weights.bin", ()),))


def test_the_first_usable_download_is_pinned_and_told(mirror, cache, capsys):
    files = public(mirror, sha256=None)
    fetch("tiny", files)
    pin("tiny", files)
    assert f"weights.bin has sha256 {SHA256}; no official one is known" in capsys.readouterr().out
    assert json.loads((cache / "tiny" / "sha256.json").read_text()) == {"weights.bin": SHA256}
    pin("tiny", files)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", ["[]", '"x"', '{"weights.bin": 5}'])
def test_a_damaged_list_of_pinned_files_is_named(mirror, cache, content):
    (cache / "tiny").mkdir(parents=True)
    (cache / "tiny" / "sha256.json").write_text(content)
    with pytest.raises(UserError, match=r"sha256.json does not hold one sha256 for each file: delete it"):
        fetch("tiny", public(mirror, sha256=None))


def test_a_cached_file_that_was_damaged_is_downloaded_again(mirror, cache):
    files = public(mirror, sha256=None)
    fetch("tiny", files)
    pin("tiny", files)
    (cache / "tiny" / "weights.bin").write_bytes(b"rotten")
    assert absent("tiny", files) == list(files)
    fetch("tiny", files)
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT and absent("tiny", files) == []


def test_a_file_that_changed_since_it_was_pinned_is_refused(mirror, cache):
    files = public(mirror, sha256=None)
    fetch("tiny", files)
    pin("tiny", files)
    (cache / "tiny" / "weights.bin").write_bytes(b"rotten")
    mirror.files["weights.bin"] = b"something else"
    with pytest.raises(StageError, match=f"the copy there has another sha256 than {SHA256}; .*not {SHA256}"):
        fetch("tiny", files)


def test_a_known_sha256_is_neither_printed_nor_pinned(mirror, cache, capsys):
    fetch("tiny", public(mirror))
    pin("tiny", public(mirror))
    assert capsys.readouterr().out == "" and kept(cache) == ["weights.bin"]


def make_zip(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("138k/G.pth", b"another")
        archive.writestr(name, CONTENT)
    return buffer.getvalue()


def make_tar(name):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.bin"), None)  # empty, and not the one in the folder that is looked for
        folder = tarfile.TarInfo("deformators/weights.bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        entry = tarfile.TarInfo(name)
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    return buffer.getvalue()


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["138k/G_ema.pth", "../../../G_ema.pth"])
def test_one_file_of_an_archive_is_kept_and_nothing_else_is_written(mirror, cache, tmp_path, make, name):
    mirror.files["archive"] = make(name)
    fetch("tiny", public(mirror, "archive#G_ema.pth"))
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT
    assert kept(cache) == ["weights.bin"]
    assert list(tmp_path.rglob("G_ema.pth")) == []


def encrypted(archive: bytes) -> bytes:
    """The zip, with headers that say that its files are encrypted."""
    changed = bytearray(archive)
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(header, archive):
            changed[found.start() + flags] |= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (make_zip("other"), r"archive it sent holds no G_ema\.pth"),
        (make_tar("other"), r"archive it sent holds no G_ema\.pth"),
        (b"no archive at all", "no archive or a damaged one"),
        (encrypted(make_zip("G_ema.pth")), "is encrypted"),
        (make_tar("G_ema.pth")[:500_000], "no archive or a damaged one"),
        (make_zip("G_ema.pth").replace(CONTENT[500_000:500_004], b"...."), "no archive or a damaged one"),
    ],
)
def test_archives_without_the_file_and_damaged_ones_are_refused(mirror, cache, content, reason):
    mirror.files["archive"] = content
    with pytest.raises(StageError, match=reason):
        fetch("tiny", public(mirror, "archive#G_ema.pth", sha256=None))
    assert kept(cache) == []


def test_two_processes_that_need_the_same_file_download_it_once(mirror, cache):
    mirror.drops["weights.bin"] = [6 * CHUNK]
    threads = [threading.Thread(target=fetch, args=("tiny", public(mirror))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent for *_, sent in mirror.requests) == len(CONTENT)
    assert (cache / "tiny" / "weights.bin").read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(mirror, cache):
    cache.write_text("a file where a folder should be")
    with pytest.raises(StageError, match=r"Could not write .*cache/tiny \("):
        fetch("tiny", public(mirror))


def test_a_full_disk_is_named(mirror, cache, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StageError, match=r"The disk is full, so .*weights\.bin was not written"):
        fetch("tiny", public(mirror))
