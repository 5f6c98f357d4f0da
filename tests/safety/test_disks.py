"""Disks that are full, or that cannot be written."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.safety.stages import NEEDS, World
from tests.safety.test_crashes import everywhere

PAGE = 4096


class Disk:
    """A file system in memory at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> None:
        """Mounts it, or mounts it anew with other options."""
        command = ["mount", "-t", "tmpfs", "-o", options, "saliency-gan-test", str(self.folder)]
        subprocess.run(command, check=True, capture_output=True)

    def leave(self, free: int) -> None:
        """Makes it so small that this many bytes are free."""
        state = os.statvfs(self.folder)
        size = (state.f_blocks - state.f_bfree) * state.f_frsize + free
        self.mount(f"remount,size={max(PAGE, size)}")  # 0 would be without end


@pytest.fixture
def disk(world: World) -> Iterator[Disk]:
    """The run folder as a file system of its own."""
    world.run.mkdir(exist_ok=True)
    disk = Disk(world.run)
    try:
        disk.mount("size=100m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a file system")
    yield disk
    subprocess.run(["umount", str(world.run)], check=True)


@pytest.mark.parametrize("verb", everywhere("discover"))
@pytest.mark.parametrize("share", [0.3, *(pytest.param(share, marks=pytest.mark.slow) for share in (0, 0.7))])
def test_a_disk_that_fills_up(verb: str, share: float, world: World, disk: Disk) -> None:
    """Of what the results need, a share is free at first."""
    world.prepare(verb)
    disk.leave(int(share * _size(world.expected(verb))))
    code, said = world.finish(verb)
    assert code == 1
    assert said.startswith("saliency-gan: ") and said.count("\n") == 0, said
    assert "The disk is full" in said or " are free" in said
    assert [name for needed in NEEDS[verb] for name in world.differences(needed)] == []
    disk.mount("remount,size=100m")
    code, said = world.finish(verb)
    assert code == 0, said
    assert world.differences(verb) == []


@pytest.mark.parametrize("verb", everywhere("discover"))
def test_a_disk_that_cannot_be_written(verb: str, world: World, disk: Disk) -> None:
    world.prepare(verb)
    disk.mount("remount,ro")
    code, said = world.finish(verb)
    assert code == 1
    assert said.startswith("saliency-gan: Could not write ") and said.count("\n") == 0, said
    assert "Read-only file system" in said
    disk.mount("remount,rw")
    code, said = world.finish(verb)
    assert code == 0, said
    assert world.differences(verb) == []


def _size(folder: Path) -> int:
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())
