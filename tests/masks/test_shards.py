import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from numpy.typing import NDArray

from saliency_gan.errors import UserError
from saliency_gan.images.writing import encode
from saliency_gan.masks import shards
from saliency_gan.masks.shards import encode_pair, open_shards, shard_name, write_shard
from tests.masks.reading import read_all

SIDE = 16


def pair(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    random = np.random.default_rng(number)
    image = random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    mask = (255 * random.integers(0, 2, (SIDE, SIDE))).astype(np.uint8)
    return image, mask, {"class": f"c{number % 3}", "seed": 7 * number, "shift": 6.0, "area": 0.25}


def write_set(folder: Path, sizes: tuple[int, ...] = (3, 2), image_format: str = "png") -> Path:
    first = 0
    for index, size in enumerate(sizes):
        samples = [encode_pair(*pair(number), image_format) for number in range(first, first + size)]
        write_shard(folder / shard_name(index), first, samples)
        first += size
    return describe(folder, list(sizes))


def describe(folder: Path, sizes: list[int]) -> Path:
    """Writes the manifest that fits the shards as they are now."""
    described = [
        {"file": shard_name(index), "pairs": size, "sha256": digest(folder / shard_name(index))}
        for index, size in enumerate(sizes)
    ]
    manifest = {
        "generator": {"name": "disc", "sha256": "d" * 64},
        "directions_sha256": "a" * 64,
        "pairs": sum(sizes),
        "resolution": SIDE,
        "shards": described,
        "config": {"directions": None},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def forge(folder: Path, members: list[tuple[str, bytes | str]], mode: Any = "w") -> Path:
    """A set of one pair whose shard holds these members; text instead of bytes makes a symbolic link."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / shard_name(0), mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return describe(folder, [1])


def good_members(key: str = "00000000") -> list[tuple[str, bytes | str]]:
    return [(f"{key}.{suffix}", content) for suffix, content in encode_pair(*pair(0), "png").items()]


def test_pairs_come_back_as_they_were(tmp_path: Path):
    found = open_shards(write_set(tmp_path / "masks"))
    assert (len(found), found.resolution, found.manifest["generator"]["name"]) == (5, SIDE, "disc")
    images, masks, infos = read_all(found)
    for number, (image, mask, info) in enumerate(found):
        for content, expected in zip((image, mask, info), pair(number), strict=True):
            np.testing.assert_array_equal(content, expected)
        np.testing.assert_array_equal(images[number], image)
        np.testing.assert_array_equal(masks[number], mask)
        assert infos[number] == info
    assert (images.shape, masks.shape, len(infos)) == ((5, SIDE, SIDE, 3), (5, SIDE, SIDE), 5)
    assert images.dtype == masks.dtype == np.uint8


def test_jpeg_images_come_back_nearly_as_they_were(tmp_path: Path):
    image = np.full((SIDE, SIDE, 3), (200, 60, 20), np.uint8)
    _, mask, info = pair(0)
    write_shard(tmp_path / shard_name(0), 0, [encode_pair(image, mask, info, "jpg")])
    (found, found_mask, _), *_ = open_shards(describe(tmp_path, [1]))
    assert np.abs(found.astype(int) - image).max() <= 3
    np.testing.assert_array_equal(found_mask, mask)


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path):
    one, other = write_set(tmp_path / "one"), write_set(tmp_path / "other")
    assert [(one / shard_name(i)).read_bytes() for i in (0, 1)] == [
        (other / shard_name(i)).read_bytes() for i in (0, 1)
    ]
    with tarfile.open(one / shard_name(1)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members[:3]] == ["00000003.json", "00000003.mask.png", "00000003.png"]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "", 0o444)
    }


def test_webdataset_reads_the_shards(tmp_path: Path):
    folder = write_set(tmp_path)
    samples = list(wds.WebDataset([str(folder / shard_name(i)) for i in (0, 1)], shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [f"{number:08d}" for number in range(5)]
    for number, sample in enumerate(samples):
        np.testing.assert_array_equal(sample["png"], pair(number)[0])
        assert sample["json"] == pair(number)[2]


def test_missing_things_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"no folder .*absent.*run masks"):
        open_shards(tmp_path / "absent")
    with pytest.raises(UserError, match=r"manifest.json does not exist"):
        open_shards(tmp_path)
    folder = write_set(tmp_path / "masks")
    (folder / shard_name(1)).unlink()
    with pytest.raises(UserError, match=r"shard-000001.tar is missing"):
        open_shards(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pairs", 6),
        ("pairs", None),
        ("resolution", "64"),
        ("resolution", 10**9),
        ("shards", "shard"),
        ("shards", [{"file": "../../secret.tar", "pairs": 5, "sha256": "0"}]),
        ("shards", [{"file": "pipe:touch owned", "pairs": 5, "sha256": "0"}]),
        ("shards", [{"file": "shard-000000.tar", "pairs": -5, "sha256": "0"}]),
        ("generator", None),
        ("directions_sha256", None),
    ],
)
def test_a_malformed_manifest_is_refused(tmp_path: Path, key: str, value: Any):
    folder = write_set(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(UserError, match=r"manifest.json is not a manifest"):
        open_shards(folder)


@pytest.mark.parametrize("content", ["[1, 2]", "null", '{"pairs": 5}'])
def test_json_that_is_no_manifest_is_refused(tmp_path: Path, content: str):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest.json is not a manifest"):
        open_shards(tmp_path)


def test_one_changed_byte_is_found(tmp_path: Path):
    folder = write_set(tmp_path)
    data = bytearray((folder / shard_name(1)).read_bytes())
    data[700] ^= 1
    (folder / shard_name(1)).write_bytes(data)
    with pytest.raises(UserError, match=r"shard-000001.tar is damaged or not a shard of this set \(its sha256"):
        open_shards(folder)


def test_a_shard_of_another_set_is_refused(tmp_path: Path):
    folder, other = write_set(tmp_path / "one"), write_set(tmp_path / "other", (2, 3))
    (folder / shard_name(0)).write_bytes((other / shard_name(1)).read_bytes())
    with pytest.raises(UserError, match=r"shard-000000.tar is damaged or not a shard of this set"):
        open_shards(folder)


def test_shards_of_directions_that_have_changed_are_refused(tmp_path: Path):
    folder = write_set(tmp_path / "masks")
    (tmp_path / "discover").mkdir()
    (tmp_path / "discover" / "directions.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match="drawn with other directions"):
        open_shards(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "config": {"directions": "elsewhere"}}))
    assert len(open_shards(folder)) == 5
    manifest["directions_sha256"] = digest(tmp_path / "discover" / "directions.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert len(open_shards(folder)) == 5


@pytest.mark.parametrize("cut", [0, 100, 700, 1800])
def test_a_shard_cut_short_is_refused_even_where_the_manifest_fits_it(tmp_path: Path, cut: int):
    folder = write_set(tmp_path)
    (folder / shard_name(0)).write_bytes((folder / shard_name(0)).read_bytes()[:cut])
    describe(folder, [3, 2])
    with pytest.raises(UserError, match=r"shard-000000.tar is damaged"):
        read_all(open_shards(folder))


@pytest.mark.parametrize("sizes", [[2, 2], [4, 2]])
def test_a_wrong_number_of_pairs_is_refused(tmp_path: Path, sizes: list[int]):
    write_set(tmp_path)
    with pytest.raises(UserError, match=rf"it should hold {sizes[0]} pairs"):
        list(open_shards(describe(tmp_path, sizes)))


def test_paths_in_a_shard_never_reach_the_disk(tmp_path: Path):
    members = good_members(f"../../{tmp_path.name}/escaped") + good_members(str(tmp_path / "absolute"))
    before = set(tmp_path.rglob("*"))
    folder = forge(tmp_path / "in" / "masks", members)
    with pytest.raises(UserError, match="it should hold 1 pairs"):
        read_all(open_shards(folder))
    assert set(tmp_path.rglob("*")) - before == {folder.parent, folder, *folder.iterdir()}


def test_links_are_refused(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    folder = forge(tmp_path / "masks", [("00000000.json", str(tmp_path / "secret")), *good_members()[1:]])
    with pytest.raises(UserError, match="no plain file of a pair"):
        list(open_shards(folder))


def test_pickles_are_never_run(tmp_path: Path):
    target = tmp_path / "owned"
    pickle = f"cos\nsystem\n(S'touch {target}'\ntR.".encode()
    folder = forge(
        tmp_path / "masks",
        [*good_members(), *((f"00000000.{suffix}", pickle) for suffix in ("pyd", "pkl", "pickle", "pth"))],
    )
    assert len(list(open_shards(folder))) == 1
    assert not target.exists()


def test_compressed_and_giant_members_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="is damaged"):
        list(open_shards(forge(tmp_path / "gzip", good_members(), "w:gz")))
    monkeypatch.setattr(shards, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(UserError, match="no plain file of a pair"):
        list(open_shards(forge(tmp_path / "giant", good_members())))


def test_pairs_that_are_not_what_they_should_be_are_refused(tmp_path: Path):
    grey = np.zeros((SIDE, SIDE), np.uint8)
    big = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    replacements: dict[str, tuple[str, bytes, str]] = {
        "large": ("png", encode(big), "32 x 32 pixels RGB instead of 16 x 16 RGB"),
        "grey": ("png", encode(grey), "16 x 16 pixels L instead of 16 x 16 RGB"),
        "soft": ("mask.png", encode(grey + 7), "not of 0 and 255"),
        "junk": ("png", b"no image", "cannot identify"),
        "list": ("json", b"[]", "its JSON is no object"),
        "text": ("json", b"{", "00000000"),
    }
    for name, (suffix, content, reason) in replacements.items():
        members = dict(good_members()) | {f"00000000.{suffix}": content}
        with pytest.raises(UserError, match=rf"shard-000000.tar is damaged.*{reason}.*run masks again"):
            list(open_shards(forge(tmp_path / name, list(members.items()))))
    for suffix in ("png", "mask.png", "json"):
        members = {name: content for name, content in good_members() if name != f"00000000.{suffix}"}
        with pytest.raises(UserError, match="has no"):
            list(open_shards(forge(tmp_path / f"without-{suffix}", list(members.items()))))


def test_pairs_are_read_in_any_order_from_their_places(tmp_path: Path):
    found = open_shards(write_set(tmp_path))
    images, masks, _ = read_all(found)
    places = found.places()
    assert places.shape == (5, 5) and places[:, 0].tolist() == [0, 0, 0, 1, 1]
    order = [4, 0, 3, 0]
    read = found.read(places[order])
    np.testing.assert_array_equal(read[0], images[order])
    np.testing.assert_array_equal(read[1], masks[order])
    assert found.read(places[:0])[0].shape == (0, SIDE, SIDE, 3)
    (tmp_path / shard_name(1)).unlink()
    with pytest.raises(UserError, match=r"shard-000001.tar is damaged.*No such file"):
        found.read(places[order])


def test_places_are_only_found_in_whole_sets(tmp_path: Path):
    members = [member for member in good_members() if not member[0].endswith("mask.png")]
    with pytest.raises(UserError, match=r"has no mask.png file"):
        open_shards(forge(tmp_path / "without", members)).places()
    junk = dict(good_members()) | {"00000000.png": b"no image"}
    found = open_shards(forge(tmp_path / "junk", list(junk.items())))
    with pytest.raises(UserError, match=r"shard-000000.tar is damaged.*cannot identify.*run masks again"):
        found.read(found.places())
