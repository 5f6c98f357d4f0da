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

    def used(self) -> int:
        """Bytes that are taken."""
        state = os.statvfs(self.folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize


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
def test_a_disk_that_cannot_be_written_and_one_that_fills_up(verb: str, world: World, disk: Disk) -> None:
    """Then of what the results need no room, 30 % and 70 % are there, and in the end all of it."""
    world.prepare(verb)
    disk.mount("remount,ro")
    assert "Read-only file system" in _failure(verb, world)
    disk.mount("remount,rw")
    used, needed = disk.used(), _size(world.expected(verb))
    for share in (0, 0.3, 0.7):
        disk.mount(f"remount,size={max(PAGE, used + int(share * needed))}")  # 0 would be without end
        said = _failure(verb, world)
        assert "The disk is full" in said or " MB are free" in said
        assert [name for before in NEEDS[verb] for name in world.differences(before)] == []
    disk.mount("remount,size=100m")
    code, said = world.finish(verb)
    assert code == 0, said
    assert world.differences(verb) == []


def _failure(verb: str, world: World) -> str:
    """The sentence with which a stage ends."""
    code, said = world.finish(verb)
    assert code == 1
    assert said.startswith("saliency-gan: ") and said.count("\n") == 0, said
    return said


def _size(folder: Path) -> int:
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())
