"""Masks drawn by two processes: the same files as by one, also after one of the two was killed."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saliency_gan.compute.processes import rank
from saliency_gan.config import MasksConfig
from saliency_gan.masks import candidates, synthesis, tally
from saliency_gan.masks.candidates import CandidateSource
from saliency_gan.masks.pieces import Pieces
from saliency_gan.masks.shards import shard_name
from saliency_gan.masks.synthesis import synthesise
from tests.jobs import JobError, kill_self, run_job

from .discs import DiscGenerator, elsewhere
from .test_synthesis import contents


def _synthesise(config: MasksConfig, kill_at: int | None = None) -> None:
    """Runs the stage on discs; process 1 is killed when it is about to write shard `kill_at`."""
    candidates.load_chosen = lambda _: DiscGenerator().freeze()
    write = synthesis.write_shard

    def write_or_die(path: Path, first: int, samples: Any) -> None:
        if rank() == 1 and kill_at is not None and path.name == shard_name(kill_at):
            kill_self()
        write(path, first, samples)

    synthesis.write_shard = write_or_die
    synthesise(config)


@pytest.fixture
def config(config: MasksConfig) -> MasksConfig:
    return replace(config, pairs=70)  # the last of 9 shards has 6


@pytest.fixture
def expected(config: MasksConfig) -> dict[str, Any]:
    return contents(synthesise(elsewhere(config, "alone")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pieces"


def test_two_processes_write_the_bytes_of_one(config, expected):
    run_job(_synthesise, config)
    found = contents(config.run / "masks")
    assert found.keys() == expected.keys()
    assert found == expected


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_a_killed_process_did_not_finish_is_done_again(config, expected, processes):
    with pytest.raises(JobError) as caught:
        run_job(_synthesise, config, 5)
    assert caught.value.failures[1] == "killed" and "Another process of this job ended" in caught.value.failures[0]
    folder = config.run / "masks"
    assert not (folder / shard_name(5)).exists() and not (folder / "manifest.json").exists()
    assert (folder / shard_name(3)).exists()
    run_job(_synthesise, config, processes=processes)
    assert contents(folder) == expected


def _give_up_early(config: MasksConfig) -> None:
    tally.HOPELESS_AFTER = 60
    _synthesise(config)


def test_other_settings_may_be_tried_after_a_hopeless_rule(config, expected):
    with pytest.raises(JobError) as caught:
        run_job(_give_up_early, replace(config, seed=7, min_area=0.5))
    assert all("Only 0 of 60" in failure for failure in caught.value.failures.values())
    run_job(_synthesise, config)
    assert contents(config.run / "masks") == expected


def test_pieces_hold_the_candidates_of_the_stream(config, folder):
    source = CandidateSource(config)
    assert Pieces(folder, source).length == 12  # whole batches of 6 that hold a shard of 8 candidates
    for first in (0, 17):
        for drawn, read in zip(
            islice(source.stream(first), 30), islice(Pieces(folder, source).stream(first), 30), strict=True
        ):
            assert (drawn.number, drawn.class_name, drawn.rejected_by) == (
                read.number,
                read.class_name,
                read.rejected_by,
            )
            if drawn.rejected_by is None:
                np.testing.assert_array_equal(drawn.image, read.image)
                np.testing.assert_array_equal(drawn.mask, read.mask)


def test_pieces_that_are_there_are_used_and_those_of_other_directions_are_not(config, folder, monkeypatch):
    source = CandidateSource(config)
    next(Pieces(folder, source).stream())
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(before) == {"piece-000000.npy", "piece-000000.json"}
    next(Pieces(folder, source).stream())
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    monkeypatch.setitem(source.identity, "directions_sha256", "another")
    next(Pieces(folder, source).stream())
    assert all(path.stat().st_mtime_ns > before[path.name] for path in folder.iterdir())


def test_pieces_that_nobody_asks_for_again_are_removed(config, folder):
    pieces = Pieces(folder, CandidateSource(config))
    stream = pieces.stream()
    for _ in islice(stream, 30):
        pass
    pieces.needed_from = 24
    for _ in islice(stream, 12):
        pass
    assert sorted(path.stem for path in folder.glob("*.npy")) == ["piece-000002", "piece-000003"]
    stream.close()
