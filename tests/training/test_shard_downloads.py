"""Shards from a server on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saliency_gan.cli.main import main
from saliency_gan.config import AdaptConfig, TrainSaliencyConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.generators.downloads import CHUNK
from saliency_gan.training.shard_downloads import download_shards
from saliency_gan.training.sources import read_shards
from tests.generators.mirrors import Mirror, serving
from tests.saliency.toys import discs, write_shards

FILES = ["manifest.json", "shard-000000.tar", "shard-000001.tar"]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = write_shards(tmp_path / "masks", 20, per_shard=12)
    with serving() as mirror:
        mirror.files = {f"set/{name}": (folder / name).read_bytes() for name in FILES}
        mirror.versions = {path: '"1"' for path in mirror.files}
        yield mirror


@pytest.mark.parametrize("address", ["set", "set/", "set/manifest.json"])
def test_the_pairs_are_those_of_the_folder(mirror: Mirror, tmp_path: Path, address: str) -> None:
    found, identity = read_shards(mirror.url(address))
    pairs = found.subset(range(len(found)))
    for part, expected in zip((pairs.images, pairs.masks), discs(20), strict=True):
        np.testing.assert_array_equal(part, expected)
    assert identity == read_shards(tmp_path / "masks")[1]


def test_they_are_downloaded_once_and_go_on_after_a_break(mirror: Mirror) -> None:
    size = len(mirror.files["set/shard-000000.tar"])
    mirror.drops["set/shard-000000.tar"] = [CHUNK + 1]
    folder = download_shards(mirror.url("set"))
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == FILES
    assert mirror.requests[1:3] == [
        ("set/shard-000000.tar", None, CHUNK + 1),
        ("set/shard-000000.tar", f"bytes={CHUNK}-", size - CHUNK),
    ]
    asked = len(mirror.requests)
    assert download_shards(mirror.url("set/")) == folder and len(mirror.requests) == asked
    (folder / FILES[1]).write_bytes(b"damaged")
    download_shards(mirror.url("set"))
    assert [path for path, *_ in mirror.requests[asked:]] == ["set/shard-000000.tar"]


def test_other_shards_than_the_manifest_says_are_refused(mirror: Mirror) -> None:
    mirror.files["set/shard-000001.tar"] = mirror.files["set/shard-000000.tar"]
    with pytest.raises(StageError, match=r"shard-000001\.tar, which could not be downloaded .*what it sent has sha256"):
        download_shards(mirror.url("set"))


@pytest.mark.parametrize("name", ["../../outside.tar", "/tmp/outside.tar", "shard-000000.tar#inner", "pipe:id"])
def test_a_manifest_cannot_name_other_files(mirror: Mirror, tmp_path: Path, name: str) -> None:
    manifest = json.loads(mirror.files["set/manifest.json"])
    manifest["shards"][0]["file"] = name
    good, mirror.files["set/manifest.json"] = mirror.files["set/manifest.json"], json.dumps(manifest).encode()
    with pytest.raises(UserError, match="is no manifest that masks wrote"):
        download_shards(mirror.url("set"))
    assert len(mirror.requests) == 1
    mirror.files["set/manifest.json"] = good
    assert download_shards(mirror.url("set")).is_relative_to(tmp_path / "cache")


def test_what_is_not_there_is_named_with_the_way_out(mirror: Mirror) -> None:
    with pytest.raises(StageError, match=r"needs manifest\.json, .*404.*download the whole folder and give --shards"):
        download_shards(mirror.url("elsewhere"))


@pytest.mark.parametrize(
    "address", ["https://", "https://host/set?X-Signature=1", "https://me:secret@host/set", "https://[a/b"]
)
def test_addresses_of_no_plain_folder_are_refused(address: str) -> None:
    with pytest.raises(UserError, match="takes a folder or its plain address"):
        download_shards(address)


def test_a_pipe_is_a_folder_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"pipe:touch {tmp_path / 'executed'}"
    assert main(["train-saliency", "--run", str(tmp_path / "run"), "--device", "cpu", "--shards", command]) == 2
    assert "There is no folder pipe:touch" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


def test_an_address_is_no_file_that_a_plan_could_miss(capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://host/set"
    assert TrainSaliencyConfig(shards=address).reads() == []
    assert Path(address) not in AdaptConfig(shards=address).reads()
    assert main(["train-saliency", "--shards", address, "--dry-run"]) == 0
    assert f"shards: {address}\n" in capsys.readouterr().out
