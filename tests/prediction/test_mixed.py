"""A folder of everything that people have in folders: the summary adds up, and whatever is left out is named."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from saliency_gan.config import PredictConfig
from saliency_gan.images.reading import FirstFrameWarning
from saliency_gan.prediction.predict import predict
from saliency_gan.storage.provenance import Source, Sources
from tests.images.test_folders import close
from tests.prediction.test_predict import config, results
from tests.prediction.test_video import write_video
from tests.profiles import display_p3, p3_as_srgb
from tests.saliency.toys import disc

__all__ = ["config"]
TINY = Image.fromarray(disc(0)[0]).resize((24, 16))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = Image.Exif()
EXIF[0x0112] = 6


def animated(path: Path, count: int = 3) -> None:
    frames = [TINY.rotate(10 * number) for number in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


READ: dict[str, Callable[[Path], Any]] = {
    "plain.jpg": TINY.save,
    "plain.jfif": lambda path: TINY.save(path, "JPEG"),
    "plain.avif": TINY.save,
    "plain.jp2": TINY.save,
    "plain.tga": TINY.save,
    "plain.webp": TINY.save,
    "plain.bmp": TINY.save,
    "turned.jpg": lambda path: TINY.save(path, exif=EXIF, dpi=(300, 300)),
    "wide.png": lambda path: TINY.save(path, icc_profile=display_p3()),
    "tagged.png": lambda path: TINY.save(path, icc_profile=SRGB),
    "clear.png": lambda path: TINY.convert("RGBA").save(path),
    "half.png": lambda path: Image.fromarray(np.dstack([TINY, np.full((16, 24), 90, np.uint8)])).save(path),
    "grey16.png": lambda path: Image.fromarray(np.array(TINY.convert("L")).astype(np.uint16) * 257).save(path),
    "int32.tif": lambda path: tifffile.imwrite(path, np.array(TINY.convert("L")).astype(np.int32)),
    "float.tif": lambda path: tifffile.imwrite(path, np.array(TINY.convert("L")).astype(np.float32) / 255),
    "cmyk.jpg": lambda path: TINY.convert("CMYK").save(path),
    "moving.gif": animated,
    "pages.tiff": animated,
    "moving.webp": animated,
    "caf\u00e9.png": TINY.save,
}
SKIPPED = ("a.DNG", "b.cr2", "c.NEF", "d.heic", "e.psd", "f.jxl")
DAMAGED = {"empty.png": b"", "text.jpg": b"no photo", "cut.png": b"\x89PNG\r\n\x1a\n", "zero.tga": b"\0" * 40}
OTHERS = ("notes.txt", "photo.xmp", ".hidden.jpg", "Thumbs.db")


def fill(folder: Path, count: int = 200) -> dict[str, int]:
    """Writes `count` files of all kinds in turn, in subfolders; returns how many of each fate there are."""
    fates = {"done": 0, "skipped": 0, "failed": 0, "nothing": 0}
    makers: list[tuple[str, str, Callable[[Path], Any]]] = [
        *(("done", name, make) for name, make in READ.items()),
        *(("skipped", name, lambda path: path.write_bytes(b"II*\0")) for name in SKIPPED),
        *(("failed", name, lambda path, data=data: path.write_bytes(data)) for name, data in DAMAGED.items()),
        *(("nothing", name, lambda path: path.write_bytes(b"")) for name in OTHERS),
    ]
    for number in range(count - 4):
        fate, name, make = makers[number % len(makers)]
        path = folder / f"{number // len(makers)}" / "deep" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        fates[fate] += 1
    write_video(folder / "film.mp4", [disc(0)[0]] * 2)
    (folder / "shut").mkdir()
    TINY.save(folder / "shut" / "photo.jpg")
    for kind in ("map", "mask"):
        (folder / "old" / kind).mkdir(parents=True)
        TINY.save(folder / "old" / kind / "photo.png")
    Sources(folder / "old").add("photo", Source("/x.jpg", 1, 1), ("map", "mask"))
    fates["done"] += 1
    fates["failed"] += 1  # the folder that is shut, for the file in it
    fates["nothing"] += 2
    return fates


@pytest.mark.filterwarnings("default::saliency_gan.images.reading.FirstFrameWarning")
def test_the_summary_of_200_files_adds_up(
    config: PredictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("saliency_gan.images.formats.has_heif", lambda: False)
    folder = tmp_path / "photos"
    fates = fill(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".sources.jsonl"]
    assert len(files) == sum(fates.values()) == 200
    close(monkeypatch, folder / "shut")
    with pytest.warns(FirstFrameWarning) as warned:
        assert predict(replace(config, save=("mask",)), [folder]) == fates["failed"]
    said = capsys.readouterr()
    last = said.out.strip().splitlines()[-1]
    assert [int(number) for number in re.findall(r"(\d+) (?:files|skipped|failed)", last)] == [
        fates["done"], fates["skipped"], fates["failed"],
    ]  # fmt: skip
    assert len(results(tmp_path / "out" / "mask")) == fates["done"]
    told = [line for line in said.err.splitlines() if line.startswith("saliency-gan: ")]
    assert len([line for line in told if "cannot be" in line]) == fates["failed"]
    for kind in ("raw photos skipped", "HEIC photos skipped", "pictures of other formats skipped"):
        assert len([line for line in told if kind in line]) == 1
    assert len([line for line in told if "Results of earlier runs are left out" in line]) == 1
    assert len([line for line in told if "shut cannot be opened" in line]) == 1
    animations = {str(path) for path in files if path.stem in ("moving", "pages")}
    assert {str(warning.message).partition(" has 3 frames")[0] for warning in warned} == animations


def test_what_a_photo_s_results_keep(config: PredictConfig, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    rgba = np.dstack([colours, np.tile(np.linspace(0, 255, 24).astype(np.uint8), (16, 1))])
    Image.fromarray(rgba).save(tmp_path / "x.png", icc_profile=display_p3(), dpi=(240, 240), exif=EXIF)
    assert predict(replace(config, save=("cutout", "overlay", "map")), [tmp_path / "x.png"]) == 0
    upright = np.rot90(rgba, -1)
    for result in ("cutout/x.png", "overlay/x.jpg", "map/x.png"):
        with Image.open(tmp_path / "out" / result) as image:
            image.load()
            assert image.size == (16, 24) and np.round(image.info["dpi"]).tolist() == [240, 240]
            assert image.getexif().get(0x0112, 1) == 1 and "icc_profile" not in image.info
    cutout = np.array(Image.open(tmp_path / "out" / "cutout" / "x.png"))
    assert np.abs(cutout[:, :, :3] - p3_as_srgb(upright[:, :, :3])).max() <= 3
    assert (cutout[:, :, 3] <= upright[:, :, 3]).all() and cutout[:, :, 3].max() > 0
