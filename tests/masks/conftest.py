from pathlib import Path

import pytest

from saliency_gan.config import MasksConfig
from saliency_gan.masks import candidates

from .discs import DiscGenerator, save_directions


@pytest.fixture
def disc(monkeypatch: pytest.MonkeyPatch) -> DiscGenerator:
    """Makes every stage load the disc generator."""
    generator = DiscGenerator().freeze()
    monkeypatch.setattr(candidates, "load_chosen", lambda _: generator)
    return generator


@pytest.fixture
def config(tmp_path: Path, disc: DiscGenerator) -> MasksConfig:
    """A run with the directions of the disc generator: 20 pairs in shards of 8, cleaning switched off."""
    save_directions(tmp_path / "run" / "discover", disc)
    return MasksConfig(
        run=tmp_path / "run",
        pairs=20,
        shard_size=8,
        batch=6,
        device="cpu",
        opening=0,
        min_component=0,
        fill_holes=False,
    )
