import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from saliency_gan.errors import UserError
from saliency_gan.prediction.matting import _compiled_folder, import_pymatting, trimap_of
from saliency_gan.prediction.refinement import refine


def test_the_trimap_is_unknown_along_the_outline_only() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:, :30] = True  # reaches three borders of the photo
    trimap = trimap_of(mask, 4)
    np.testing.assert_array_equal(trimap, np.tile(np.repeat([1, 0.5, 0], [26, 8, 26]), (40, 1)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(UserError, match=r"pip install 'saliency-gan\[matting\]'"):
        import_pymatting()


def test_compiled_code_is_kept_where_it_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path / "cache"))
    assert _compiled_folder() == tmp_path / "cache/numba"
    (tmp_path / "file").touch()
    monkeypatch.setenv("SALIENCY_GAN_CACHE", str(tmp_path / "file/below"))  # even root cannot write there
    folder = _compiled_folder()
    assert folder.is_dir() and folder.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_matting_works_where_neither_home_nor_cache_can_be_written(tmp_path: Path) -> None:
    pytest.importorskip("pymatting")
    code = (
        "import numpy as np\n"
        "from saliency_gan.prediction.refinement import refine\n"
        "saliency = np.kron([[0, 0], [0, 1]], np.ones((8, 8))).astype(np.float32)\n"
        "image = np.random.default_rng(0).integers(255, size=(40, 40, 3), dtype=np.uint8)\n"
        "photo = refine(image, saliency, 0.5, 'matting')\n"
        "print(photo.opacity(slice(0, 40))[[2, 37], [2, 37]].round().tolist())\n"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"HOME": "/dev/null", "SALIENCY_GAN_CACHE": "/dev/null/cache", "TMPDIR": str(tmp_path)}
    job = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert job.returncode == 0, job.stderr
    assert job.stdout.splitlines()[-1] == "[0.0, 1.0]"
    assert not list(tmp_path.iterdir())  # what was compiled for this process alone is gone


@pytest.mark.slow
def test_opacity_and_colours_of_a_composite_are_found() -> None:
    pytest.importorskip("pymatting")
    size = 500  # above MATTING_SIDE, so that opacity is brought to the photo's size
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(y - size / 2, x - size / 2)
    opacity = ((150 - distance) / 16 + 0.5).clip(0, 1)[:, :, None]  # a disc with an edge 16 pixels wide
    front, ground = np.array((220, 60, 40)), np.array((30, 80, 200))
    image = (front * opacity + ground * (1 - opacity)).round().astype(np.uint8)
    coarse = (np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 10.2).astype(np.float32)  # about 10 pixels too large
    photo = refine(image, coarse, 0.5, "matting")
    rows = slice(0, size)
    assert np.abs(photo.opacity(rows) - opacity[:, :, 0]).mean() < 0.005
    edge = (opacity[:, :, 0] > 0.3) & (opacity[:, :, 0] < 0.9)
    assert np.abs(photo.colours(rows)[edge].astype(float) - front).mean() < 12
    assert np.abs(image[edge] - front).mean() > 40  # what an uncorrected cut-out would carry


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 9)])
def test_a_photo_of_a_pixel_has_a_cut_out(size: tuple[int, int]) -> None:
    pytest.importorskip("pymatting")
    photo = refine(np.full((*size, 3), 90, np.uint8), np.full((8, 8), 0.8, np.float32), 0.5, "matting")
    assert np.isfinite(photo.opacity(slice(0, 1))).all() and photo.colours(slice(0, 1)).shape == (*size, 3)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_photos_without_inside_or_outside_keep_their_map(level: float) -> None:
    pytest.importorskip("pymatting")
    image = np.full((20, 30, 3), 90, np.uint8)
    photo = refine(image, np.full((8, 8), level, np.float32), 0.5, "matting")
    np.testing.assert_allclose(photo.opacity(slice(0, 20)), level, atol=1e-3)
    if level:  # colours that nobody sees are anything
        np.testing.assert_allclose(photo.colours(slice(0, 20)), image, atol=2)
