"""Stages that are killed: the same command goes on and gives what an uninterrupted run gives, byte for byte."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.safety.stages import NEEDS, PATIENCE, Meddling, World

KILLS = 20
YEARS = 30 * 365 * 86400


def everywhere(*cheap: str) -> list[object]:
    """All stages, all but a few marked slow."""
    return [verb if verb in cheap else pytest.param(verb, marks=pytest.mark.slow) for verb in NEEDS]


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
@pytest.mark.parametrize("verb", everywhere("discover", "masks"))
def test_a_second_run_is_refused_and_a_killed_one_keeps_nobody_out(verb: str, world: World) -> None:
    """The first run is stopped in the middle, refuses the second, and is killed."""
    world.prepare(verb)
    first = world.start(verb, Meddling(at=world.changes[verb] // 2, signal=signal.SIGSTOP))
    _wait_until_stopped(first.pid)
    code, said = world.finish(verb)
    assert code == 2 and "saliency-gan: Another process is working in " in said
    first.kill()
    first.join(PATIENCE)
    code, said = world.finish(verb)
    assert code == 0, said
    assert world.differences(verb) == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", NEEDS)
def test_kill_9_at_random_moments_changes_nothing(verb: str, world: World) -> None:
    """Every second kill comes at a random time, the others right before a random change to the run folder."""
    moments = random.Random(verb)
    world.prepare(verb)
    kills = 0
    while kills < KILLS:
        by_time = kills % 2
        at = None if by_time else moments.randint(1, world.changes[verb])
        process = world.start(verb, Meddling(at))
        process.join(moments.uniform(0, world.seconds[verb]) if by_time else PATIENCE)
        process.kill()
        process.join(PATIENCE)
        if process.exitcode == 0:  # it was done before that
            assert world.differences(verb) == []
            world.prepare(verb)
        else:
            assert process.exitcode == -signal.SIGKILL, world.said()
            kills += 1
    code, said = world.finish(verb)
    assert code == 0, said
    assert world.differences(verb) == []


@pytest.mark.slow
def test_workers_that_outlive_a_killed_process_keep_nobody_out(world: World) -> None:
    world.prepare("train-saliency")
    process = world.start("train-saliency", Meddling(at=world.changes["train-saliency"] - 2), "--workers=1")
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    code, said = world.finish("train-saliency")
    assert code == 0, said
    assert world.differences("train-saliency") == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", NEEDS)
def test_a_clock_that_jumps_changes_nothing(verb: str, world: World) -> None:
    """The first run is killed 30 years ahead, the second comes 30 years back, and the files are of 1970."""
    world.prepare(verb)
    first = world.start(verb, Meddling(at=world.changes[verb] * 3 // 4, clock=YEARS))
    first.join(PATIENCE)
    assert first.exitcode == -signal.SIGKILL
    for path in world.run.rglob("*"):
        os.utime(path, (0, 0))
    code, said = world.finish(verb, Meddling(clock=-YEARS))
    assert code == 0, said
    assert world.differences(verb) == []


def _wait_until_stopped(process: int) -> None:
    for _ in range(100 * PATIENCE):
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    raise AssertionError("it does not come to where it should stop")
