from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saliency_gan.errors import UserError
from saliency_gan.saliency.photos import read_photos


def test_photos_are_squeezed_and_bad_ones_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for index in range(18):
        path = tmp_path / f"group-{index % 2}" / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20 + index, 40), (index, 0, 0)).save(path)
    (tmp_path / "bad.jpg").write_text("no image")
    photos = read_photos(tmp_path, 8, 100, 0)
    assert photos.shape == (18, 8, 8, 3)
    assert photos[:, 0, 0, 0].tolist() == [*range(0, 18, 2), *range(1, 18, 2)]
    assert "bad.jpg" in capsys.readouterr().err
    some = read_photos(tmp_path, 8, 17, 0)
    assert 16 <= len(some) <= 17
    np.testing.assert_array_equal(some, read_photos(tmp_path, 8, 17, 0))


def test_too_few_photos_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    with pytest.raises(UserError, match="1 readable photos"):
        read_photos(tmp_path, 8, 100, 0)
    with pytest.raises(UserError, match="There is no folder"):
        read_photos(tmp_path / "nowhere", 8, 100, 0)
