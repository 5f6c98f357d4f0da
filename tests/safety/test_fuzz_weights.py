"""Shards, weights, checkpoints and archives: 220 edited shards, 400 edited files of weights, 180 of checkpoints and
archives, 9 by hand."""

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saliency_gan.errors import UserError
from saliency_gan.generators.unlabelled_images import load_unlabelled_images
from saliency_gan.generators.zoo import load_generator
from saliency_gan.masks.shards import open_shards
from saliency_gan.results.directions import load_directions
from saliency_gan.saliency.model import load_model
from saliency_gan.storage.torch_files import load_torch
from tests.directions.finished import finished_run
from tests.masks.test_shards import describe, write_set
from tests.payload import Payload
from tests.safety.fuzzing import broken, fuzzed, survives
from tests.saliency.exported import save_tiny

SHARD = "shard-000000.tar"
READERS: dict[str, Callable[[Path], object]] = {
    "model.safetensors": load_model,
    "config.json": lambda path: load_model(path.with_name("model.safetensors")),
    "tiny.safetensors": lambda path: load_generator(str(path)),
    "directions.safetensors": lambda path: load_directions(path.parent),
    "directions.json": lambda path: load_directions(path.parent),
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with a valid file of every kind."""
    folder = tmp_path_factory.mktemp("valid") / "files"
    write_set(folder, (3,))
    save_tiny(folder)
    run = finished_run(folder)
    for path in (run / "discover").glob("directions.*"):
        path.rename(folder / path.name)
    torch.save({"step": 3, "tensor": torch.arange(6.0)}, folder / "last.pt")
    np.savez(folder / "images.npz", images=np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8))
    return folder


def _try(path: Path, content: bytes, read: Callable[[Path], object]) -> bool:
    """Reads the valid folder with one file replaced, and puts the file back."""
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        return survives(lambda: read(path), path.parent)
    finally:
        path.write_bytes(whole)


def _read_shards(path: Path) -> None:
    shards = open_shards(path.parent)
    list(shards)
    shards.read(shards.places())


@fuzzed(220)
@given(st.data())
def test_edited_shards_whose_sha256_fits(valid: Path, data: st.DataObject) -> None:
    path, manifest = valid / SHARD, (valid / "manifest.json").read_bytes()

    def read(path: Path) -> None:
        describe(valid, [3])
        _read_shards(path)

    _try(path, data.draw(broken(path.read_bytes(), 1024)), read)
    (valid / "manifest.json").write_bytes(manifest)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_devices_in_shards_are_refused(valid: Path, kind: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("../../escaped.png", "/escaped.mask.png", "00000000.json"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    path, manifest = valid / SHARD, (valid / "manifest.json").read_bytes()

    def read(path: Path) -> None:
        path.write_bytes(path.read_bytes() + bytes(10_240))
        describe(valid, [3])
        _read_shards(path)

    assert not _try(path, buffer.getvalue(), read)
    (valid / "manifest.json").write_bytes(manifest)


@pytest.mark.parametrize("name", READERS)
@fuzzed(80)
@given(data=st.data())
def test_edited_weights(valid: Path, name: str, data: st.DataObject) -> None:
    path = valid / name
    _try(path, data.draw(broken(path.read_bytes(), 400)), READERS[name])


@fuzzed(100)
@given(st.data())
def test_edited_checkpoints(valid: Path, data: st.DataObject) -> None:
    path = valid / "last.pt"
    _try(path, data.draw(broken(path.read_bytes())), load_torch)


@fuzzed(80)
@given(st.data())
def test_edited_archives(valid: Path, data: st.DataObject) -> None:
    path = valid / "images.npz"
    _try(path, data.draw(broken(path.read_bytes())), lambda path: load_unlabelled_images(path, 8, 1))


@pytest.mark.parametrize("way", ["torch", "pickle", "npz"])
def test_pickled_code_never_runs(tmp_path: Path, way: str) -> None:
    owned, path = tmp_path / "owned", tmp_path / f"weights.{'npz' if way == 'npz' else 'pt'}"
    if way == "torch":
        torch.save({"step": 1, "model": Payload(owned)}, path)
    elif way == "pickle":
        path.write_bytes(pickle.dumps({"step": Payload(owned)}))
    else:
        np.savez(path, images=np.array([Payload(owned)], object))
    with pytest.raises(UserError, match="pickled objects"):
        load_unlabelled_images(path, 8, 1) if way == "npz" else load_torch(path)
    assert not owned.exists()


def test_a_header_that_lies_takes_no_memory(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    for length in (len(header), 2**63 - 1, 2**40, 0):
        path = tmp_path / "generator.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + header)
        assert not survives(lambda path=path: load_generator(str(path)), tmp_path)
