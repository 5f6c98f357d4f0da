"""Stage 2, `masks`: draws pairs of an image and its mask and writes them as shards."""

import shutil
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from saliency_gan.compute.processes import is_main, meet, rank, world_size
from saliency_gan.config import MasksConfig, to_plain
from saliency_gan.errors import StageError, UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.writing import write_image
from saliency_gan.masks.candidates import Candidate, CandidateSource
from saliency_gan.masks.pieces import Pieces
from saliency_gan.masks.preview import PREVIEW_PAIRS, preview
from saliency_gan.masks.shards import encode_pair, shard_name, write_shard
from saliency_gan.masks.tally import GOOD_FIT, HopelessError, Tally
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.storage.files import read_json, sha256_of, write_json

Record = dict[str, Any]
"""Content of records/shard-000000.json for a finished shard: file, pairs, sha256, identity of its source, and the tally
up to its last pair. The tally's number of candidates is the first candidate of the next shard."""


def synthesise(config: MasksConfig) -> Path:
    """Draws `config.pairs` pairs into `run/masks`, and resumes where an earlier run stopped.

    The candidates, and which of them are accepted, depend only on the settings. So a resumed run writes the same bytes
    as an uninterrupted one. If more pairs are requested later, full shards are kept; fewer are refused. The processes
    of a torchrun job each write some of the shards, and together the same bytes, if each process computes with the same
    number of threads.

    Returns:
        The folder of the shards, manifest.json and preview.png.

    Raises:
        UserError: If a setting is out of range, if generator, directions and the folder do not belong together, or if
            the folder holds more pairs already.
        StageError: If the disk has too little space, or if hardly any candidate is accepted.
    """
    source = CandidateSource(config)
    config = source.config
    _refuse_fewer(config.run / "masks", config.pairs)
    with StageFolder(config, "masks", changeable=("pairs",)) as folder:
        records = _finished_shards(folder.path, config, source.identity)
        missing = config.pairs - sum(record["pairs"] for record in records)
        meet()  # wait, so that no process counts a shard that another one writes now
        if missing:
            (folder.path / "manifest.json").unlink(missing_ok=True)
            _check_disk_space(folder.path, config, source.generator.resolution, missing)
            try:
                _draw_shards(folder.path, source, records)
            except HopelessError:
                if not records:  # no shard exists, so the user may try other settings in this folder
                    meet()  # wait, so that no process reads a piece that is removed now
                    _remove_pieces(folder.path)
                    (folder.path / "config.yaml").unlink(missing_ok=True)
                raise
        if not is_main():
            return folder.path
        _remove_pieces(folder.path)
        manifest = _manifest(source, records)
        write_json(folder.path / "manifest.json", manifest)
    print(
        f"{config.pairs:,} pairs of {manifest['candidates']:,} candidates written to {folder.path}; rejected by"
        f" {', '.join(f'{check}: {count:,}' for check, count in manifest['rejections'].items()) or 'no check'}"
    )
    if fit := manifest["fit"]:
        print(f"mask fit: mean {fit['mean']:.3f}, {fit['good_share']:.0%} at {GOOD_FIT:g} or more")
    return folder.path


class PairStream:
    """Draws accepted pairs on the fly, without files: the same pairs as `synthesise`, in the same order.

    Iterating yields images, uint8 [batch, H, W, 3], and masks, uint8 [batch, H, W] of 0 and 255, without end. Close the
    iterator to stop its threads.

    Args:
        config: Settings of the masks stage; settings of files are not used.
        batch: Pairs per batch; None takes `config.batch`.
        first: First candidate. `position` of an earlier stream continues that stream exactly.

    Attributes:
        position: Candidate after the last one of the last batch.

    Raises:
        UserError: If a setting is out of range, or generator and directions do not belong together.
        StageError: While iterating, if hardly any candidate is accepted.
    """

    def __init__(self, config: MasksConfig, batch: int | None = None, first: int = 0) -> None:
        self.source = CandidateSource(config)
        self.batch = batch or config.batch
        self.position = first

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return self.source.generator.resolution

    def __iter__(self) -> Generator[tuple[ImageArray, NDArray[np.uint8]], None, None]:
        tally, accepted = Tally(), []
        with closing(self.source.stream(self.position)) as candidates:
            for candidate in candidates:
                tally.count(candidate)
                if candidate.rejected_by is None:
                    accepted.append(candidate)
                if len(accepted) == self.batch:
                    self.position = candidate.number + 1
                    yield np.stack([pair.image for pair in accepted]), 255 * np.stack([pair.mask for pair in accepted])
                    accepted = []


def _draw_shards(folder: Path, source: CandidateSource, records: list[Record]) -> None:
    """Draws the missing shards and appends their records. Of n processes in a job, each writes every n-th shard."""
    config = source.config
    pieces = Pieces(_pieces(folder), source)
    stream = source.stream if world_size() == 1 else pieces.stream
    tally = Tally.from_plain(records[-1]["tally"]) if records else Tally()
    shown: list[Candidate] = []
    with (
        ThreadPoolExecutor(thread_name_prefix="encode") as encoding,
        closing(stream(tally.candidates)) as candidates,
        tqdm(desc="masks", total=config.pairs, initial=tally.accepted, unit="pair") as progress,
    ):
        while tally.accepted < config.pairs:
            first, index = tally.accepted, len(records)
            wanted = _pairs_of_shard(index, config)
            own = index % world_size() == rank()
            pieces.needed_from = tally.candidates
            samples: list[Future[dict[str, bytes]]] = []
            while tally.accepted < first + wanted:
                candidate = next(candidates)
                tally.count(candidate)
                if candidate.rejected_by is None:
                    if own:
                        samples.append(encoding.submit(_encode, candidate, source))
                    shown += [candidate] * (index == 0 and len(shown) < PREVIEW_PAIRS)
                    progress.set_postfix(accepted=f"{tally.acceptance:.0%}", refresh=False)
                    progress.update()
                if candidate.number % config.batch == config.batch - 1:
                    wait(samples)  # encoding threads would slow down drawing the next batch
            if not own:
                _append(records, {})
                continue
            path = folder / shard_name(index)
            write_shard(path, first, [sample.result() for sample in samples])
            record = {"file": path.name, "pairs": wanted, "sha256": sha256_of(path)}
            record |= {"identity": source.identity, "tally": tally.to_plain()}
            if index == 0:
                write_image(folder / "preview.png", preview(shown, source))
            write_json(_record_path(folder, index), record)
            _append(records, record)
    meet()
    others, records[:] = list(records), []
    for index, record in enumerate(others):
        _append(records, record or read_json(_record_path(folder, index)))


def _append(records: list[Record], record: Record) -> None:
    """Appends a record. Only the last tally is kept, because with many classes they would fill the memory."""
    if records:
        records[-1].pop("tally", None)
    records.append(record)


def _encode(candidate: Candidate, source: CandidateSource) -> dict[str, bytes]:
    info = {
        "class": candidate.class_name,
        "seed": candidate.number,
        "shift": source.shift,
        "area": round(float(candidate.mask.mean()), 6),
    }
    if candidate.fit is not None:
        info["fit"] = round(candidate.fit, 4)
    return encode_pair(candidate.image, 255 * candidate.mask, info, source.config.image_format)


def _manifest(source: CandidateSource, records: list[Record]) -> dict[str, Any]:
    tally = Tally.from_plain(records[-1]["tally"])
    return {
        **source.identity,
        "pairs": tally.accepted,
        "candidates": tally.candidates,
        "resolution": source.generator.resolution,
        "polarity": source.polarity,
        "shards": [{key: record[key] for key in ("file", "pairs", "sha256")} for record in records],
        **tally.to_plain(),
        "config": to_plain(source.config),
    }


def _finished_shards(folder: Path, config: MasksConfig, identity: dict[str, Any]) -> list[Record]:
    """Records of the finished shards, from the first shard to the last before a gap.

    Raises:
        UserError: If a shard was drawn with another generator, other directions or other painters.
    """
    records: list[Record] = []
    while (wanted := _pairs_of_shard(len(records), config)) and (path := _record_path(folder, len(records))).exists():
        record = _read_record(path)
        if record["identity"] != identity:
            raise UserError(
                f"{folder} holds pairs of another generator, other directions, other units or another judge: choose"
                f" another folder with --run, or delete {folder} to begin again."
            )
        shard = folder / shard_name(len(records))
        if record["pairs"] != wanted or not shard.is_file() or sha256_of(shard) != record["sha256"]:
            break
        _append(records, record)
    return records


def _read_record(path: Path) -> Record:
    record = read_json(path)
    if not isinstance(record, dict) or not {"identity", "pairs", "sha256", "tally"} <= set(record):
        raise UserError(f"{path} is not a record that masks wrote: delete it and run masks again.")
    return record


def _refuse_fewer(folder: Path, pairs: int) -> None:
    """Refuses a call for fewer pairs than were drawn, because finished shards would be lost.

    Raises:
        UserError: If the folder holds more pairs.
    """
    held = sum(_read_record(path)["pairs"] for path in folder.glob("records/shard-*.json"))
    if held > pairs:
        raise UserError(
            f"{folder} holds {held:,} pairs already, and --pairs {pairs} would remove some: choose another folder with"
            f" --run, or delete {folder} to begin again."
        )


def _pairs_of_shard(index: int, config: MasksConfig) -> int:
    return max(0, min(config.shard_size, config.pairs - index * config.shard_size))


def _pieces(folder: Path) -> Path:
    return folder / "pieces"


def _remove_pieces(folder: Path) -> None:
    shutil.rmtree(_pieces(folder), ignore_errors=True)


def _record_path(folder: Path, index: int) -> Path:
    return folder / "records" / Path(shard_name(index)).with_suffix(".json")


def _check_disk_space(folder: Path, config: MasksConfig, side: int, pairs: int) -> None:
    """Checks the free disk space: 3 bytes per pixel for PNG, 1 for JPEG, and 5 kB per pair for the rest."""
    needed = pairs * (side * side * (3 if config.image_format == "png" else 1) + 5000)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StageError(
            f"{pairs:,} pairs need about {needed / 1e6:,.0f} MB in {folder}, but {free / 1e6:,.0f} MB are free:"
            " free some space, ask for fewer --pairs or choose another folder with --run."
        )
