from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder whose parent is this test's own, too, so that what appears beside it is seen."""
    inside = tmp_path / "inside"
    inside.mkdir()
    return inside
