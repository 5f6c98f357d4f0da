from pathlib import Path

import pytest

from tests.safety.stages import World


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder whose parent is this test's own, too, so that what appears beside it is seen."""
    inside = tmp_path / "inside"
    inside.mkdir()
    return inside


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Photos, a pipeline that runs in seconds, and what its stages give."""
    return World(tmp_path_factory.mktemp("world"))
