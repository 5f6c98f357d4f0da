"""Shards: WebDataset tar files of pairs, and the manifest that describes them."""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import webdataset as wds
from numpy.typing import NDArray
from PIL import Image
from webdataset.tariterators import group_by_keys

from saliency_gan.errors import UserError, reason_of
from saliency_gan.images import ImageArray
from saliency_gan.images.writing import encode
from saliency_gan.storage.files import read_json, sha256_of, write_bytes

GeneratedPair = tuple[ImageArray, NDArray[np.uint8], dict[str, Any]]
"""Image uint8 [H, W, 3], mask uint8 [H, W] of 0 and 255, and information: {"class": name, "seed": number of the
candidate for `candidates.draw_latents`, "shift": magnitude or None, "area": share that the mask covers} and, if
there was a judge, "fit": IoU of the mask with what the judge marks."""

Sample = dict[str, Any]
"""A pair as it lies in a shard: "__key__" and, by suffix, what was taken from each of its files."""

MAX_MEMBER_BYTES = 64 * 2**20
"""Larger members are refused before they are read, so a forged shard cannot fill the memory."""

_MALFORMED = (ArithmeticError, LookupError, ValueError, OSError, EOFError, MemoryError)
MIN_PAIR_BYTES = 6 * 512
"""Smallest size of three files in a tar file. A shorter shard cannot hold the number of pairs in its manifest."""


def encode_pair(
    image: ImageArray, mask: NDArray[np.uint8], info: dict[str, Any], image_format: str
) -> dict[str, bytes]:
    """Encodes a pair as three files. Returns suffix (png or jpg, mask.png, json) -> content of the file.

    Args:
        image: uint8 [H, W, 3].
        mask: uint8 [H, W] of 0 and 255.
        info: Information about the pair, as JSON values.
        image_format: png or jpg.
    """
    return {
        image_format: encode(image, f".{image_format}"),
        "mask.png": encode(mask),
        "json": json.dumps(info).encode(),
    }


def write_shard(path: Path, first: int, samples: Sequence[Mapping[str, bytes]]) -> None:
    """Writes one tar file atomically; the same samples give the same bytes.

    Args:
        path: The file.
        first: Position of the first pair in the whole set. The key of a pair is its position with eight digits.
        samples: Results of `encode_pair`.
    """
    buffer = io.BytesIO()
    with wds.TarWriter(buffer, encoder=False, mtime=0, user="", group="") as writer:
        for number, sample in enumerate(samples, first):
            writer.write({"__key__": f"{number:08d}", **sample})
    write_bytes(path, buffer.getbuffer())


def shard_name(index: int) -> str:
    """File name of a shard, shard-000000.tar and so on."""
    return f"shard-{index:06d}.tar"


@dataclass(frozen=True)
class ShardSet:
    """A finished folder of shards; iterating it reads the pairs in order.

    Attributes:
        folder: Folder of the shards.
        manifest: Content of manifest.json.
    """

    folder: Path
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return self.manifest["pairs"]

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return self.manifest["resolution"]

    def __iter__(self) -> Iterator[GeneratedPair]:
        for path, sample in self._samples(_bytes):
            image, mask, info = _files_of(path, sample)
            name = repr(sample["__key__"][:80])
            yield *_decode(path, name, image, mask, self.resolution), _decode_info(path, name, info)

    def places(self) -> NDArray[np.int64]:
        """Finds every pair in the shards without decoding it, so that `read` can read any of them.

        Returns:
            int64 [N, 5]: number of the shard, then offset and size in bytes of the image and of the mask. Ten million
            pairs take 400 MB.

        Raises:
            UserError: If a shard is damaged.
        """
        numbers = {self.folder / shard["file"]: number for number, shard in enumerate(self.manifest["shards"])}
        places = np.empty((len(self), 5), np.int64)
        for index, (path, sample) in enumerate(self._samples(_place)):
            image, mask, _ = _files_of(path, sample)
            places[index] = numbers[path], *image, *mask
        return places

    def read(self, places: NDArray[np.int64]) -> tuple[ImageArray, NDArray[np.uint8]]:
        """Reads the pairs at some rows of `places()`: images uint8 [n, H, W, 3] and masks uint8 [n, H, W] of 0 and 255.

        Raises:
            UserError: If a pair cannot be decoded.
        """
        side = self.resolution
        images, masks = np.empty((len(places), side, side, 3), np.uint8), np.empty((len(places), side, side), np.uint8)
        for index, (number, *spans) in enumerate(places.tolist()):
            path = self.folder / self.manifest["shards"][number]["file"]
            try:
                with path.open("rb") as file:
                    image, mask = _content(file, *spans[:2]), _content(file, *spans[2:])
            except OSError as error:
                raise UserError(_damaged(path, str(error))) from None
            images[index], masks[index] = _decode(path, f"at byte {spans[0]}", image, mask, side)
        return images, masks

    def _samples(self, content: Callable[[tarfile.TarFile, tarfile.TarInfo], Any]) -> Iterator[tuple[Path, Sample]]:
        for shard in self.manifest["shards"]:
            path = self.folder / shard["file"]
            count = 0
            try:
                for sample in group_by_keys(_members(path, content)):
                    count += 1
                    if count > shard["pairs"]:
                        break
                    yield path, sample
            except (tarfile.TarError, *_MALFORMED) as error:
                raise UserError(_damaged(path, reason_of(error))) from None
            if count != shard["pairs"]:
                raise UserError(_damaged(path, f"it should hold {shard['pairs']} pairs"))


def open_shards(folder: Path) -> ShardSet:
    """Opens the shards that the masks stage wrote, and checks that they are complete and belong together.

    Raises:
        UserError: If the folder or its manifest is missing or malformed, if a shard is missing or is not the file that
            the manifest describes, or if the run's directions have changed since.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: run masks first, or give the folder that holds the shards.")
    manifest = read_manifest(folder)
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        if not path.is_file():
            raise UserError(f"{path} is missing although manifest.json lists it: run masks again to draw it anew.")
        if path.stat().st_size < shard["pairs"] * MIN_PAIR_BYTES:
            raise UserError(_damaged(path, f"it is too short for {shard['pairs']} pairs"))
        if sha256_of(path) != shard["sha256"]:
            raise UserError(_damaged(path, "its sha256 is not the one in manifest.json"))
    _check_directions(folder, manifest)
    return ShardSet(folder, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads manifest.json, without checking the shards.

    Raises:
        UserError: If it is missing or malformed.
    """
    manifest = read_json(folder / "manifest.json")
    try:
        shards = manifest["shards"]
        valid = (
            type(manifest["pairs"]) is int
            and manifest["pairs"] == sum(shard["pairs"] for shard in shards)
            and all(type(shard["pairs"]) is int and shard["pairs"] > 0 for shard in shards)
            and all(re.fullmatch(r"shard-\d{6}\.tar", shard["file"]) for shard in shards)
            and all(isinstance(shard["sha256"], str) for shard in shards)
            and type(manifest["resolution"]) is int
            and 0 < manifest["resolution"] <= 4096
            and isinstance(manifest["generator"]["sha256"], str)
            and isinstance(manifest.get("directions_sha256", ""), str)
        )
    except (LookupError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise UserError(
            f"{folder / 'manifest.json'} is not a manifest that masks wrote: delete {folder} and run masks again."
        )
    return manifest


def _check_directions(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises UserError if the run's directions have changed since the shards were drawn."""
    directions = folder.parent / "discover" / "directions.safetensors"
    took_the_runs = isinstance(manifest.get("config"), dict) and manifest["config"].get("directions") is None
    drawn_with = manifest.get("directions_sha256")  # missing if no rule needed a shifted image
    if drawn_with and took_the_runs and directions.exists() and sha256_of(directions) != drawn_with:
        raise UserError(
            f"The shards in {folder} were drawn with other directions than those of {directions}:"
            f" delete {folder} and run masks again."
        )


def _members(path: Path, content: Callable[[tarfile.TarFile, tarfile.TarInfo], Any]) -> Iterator[Sample]:
    """Yields the plain files of an uncompressed tar file, with what `content` takes from each; none is extracted."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if not member.isreg() or member.issparse() or member.size > MAX_MEMBER_BYTES:
                raise tarfile.TarError(f"{member.name[:80]!r} is no plain file of a pair")
            yield {"fname": member.name, "data": content(tar, member), "__url__": str(path)}
    yield {}


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _place(_: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, int]:
    return member.offset_data, member.size


def _content(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _files_of(path: Path, sample: Sample) -> tuple[Any, Any, Any]:
    """What was taken from the three files of a pair: image, mask and information."""
    try:
        return sample["png"] if "png" in sample else sample["jpg"], sample["mask.png"], sample["json"]
    except KeyError as error:
        raise UserError(_damaged(path, f"pair {sample['__key__'][:80]!r} has no {error.args[0]} file")) from None


def _decode(path: Path, name: str, image: bytes, mask: bytes, side: int) -> tuple[ImageArray, NDArray[np.uint8]]:
    try:
        decoded = _decode_image(image, "RGB", side), _decode_image(mask, "L", side)
        if not ((decoded[1] == 0) | (decoded[1] == 255)).all():
            raise ValueError("its mask is not of 0 and 255")
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise UserError(_damaged(path, f"pair {name}: {reason_of(error)}")) from None
    return decoded


def _decode_info(path: Path, name: str, info: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(info)
    except (ValueError, RecursionError) as error:
        raise UserError(_damaged(path, f"pair {name}: {error}")) from None
    if not isinstance(decoded, dict):
        raise UserError(_damaged(path, f"pair {name}: its JSON is no object"))
    return decoded


def _decode_image(data: bytes, mode: str, side: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        if image.size != (side, side) or image.mode != mode:
            raise ValueError(f"{image.width} x {image.height} pixels {image.mode} instead of {side} x {side} {mode}")
        return np.array(image)


def _damaged(path: Path, reason: str) -> str:
    return f"{path} is damaged or not a shard of this set ({reason}): delete it and run masks again."
