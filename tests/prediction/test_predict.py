import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from saliency_gan.config import ExportConfig, PredictConfig
from saliency_gan.errors import UserError
from saliency_gan.prediction import predict as predict_module
from saliency_gan.prediction.predict import predict
from saliency_gan.saliency.export import export
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.predictor import load_saliency_model
from tests.prediction.test_video import write_video
from tests.saliency.exported import save_tiny
from tests.saliency.toys import disc


@pytest.fixture
def config(tmp_path: Path) -> PredictConfig:
    save_tiny(tmp_path / "weights")
    return PredictConfig(output=tmp_path / "out", weights=tmp_path / "weights", device="cpu", batch=3, precision="fp32")


def photo(path: Path, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(disc(seed)[0]).resize(size[::-1]).save(path)
    return path


def results(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".sources.jsonl"
    )


def test_map_and_mask_are_those_of_the_model(config: PredictConfig, tmp_path: Path) -> None:
    path = photo(tmp_path / "photo.png")
    assert predict(replace(config, threshold=0.3), [path]) == 0
    expected = load_saliency_model(config.weights, "cpu").predict(path)
    map_ = np.array(Image.open(tmp_path / "out" / "map" / "photo.png"))
    assert map_.dtype == np.uint8
    assert np.abs(map_ - expected * 255).max() <= 0.51
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / "out" / "mask" / "photo.png")), np.where(expected >= 0.3, 255, 0)
    )


def test_the_object_is_cut_out(config: PredictConfig, trained: Path, tmp_path: Path) -> None:
    path = photo(tmp_path / "photo.png", (64, 64))
    assert predict(replace(config, weights=trained / "saliency", save=("cutout", "overlay")), [path]) == 0
    cutout = np.array(Image.open(tmp_path / "out" / "cutout" / "photo.png"))
    truth = cv2.resize(disc(0)[1], (64, 64), interpolation=cv2.INTER_NEAREST) > 0
    np.testing.assert_array_equal(cutout[:, :, :3], np.array(Image.open(path)))
    assert ((cutout[:, :, 3] > 127) == truth).mean() > 0.95
    assert Image.open(tmp_path / "out" / "overlay" / "photo.jpg").size == (64, 64)
    assert results(tmp_path / "out") == ["cutout/photo.png", "overlay/photo.jpg"]


def test_every_kind_of_file_is_marked_at_its_own_size(config: PredictConfig, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    image = Image.fromarray(disc(0)[0]).resize((60, 40))
    folder.mkdir()
    grey16 = np.array(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey16).save(folder / "grey16.png")
    cv2.imwrite(str(folder / "rgb16.png"), np.array(image).astype(np.uint16) * 257)
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "rgba.png")
    image.convert("P").save(folder / "palette.gif")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.save(folder / "żółw 乌龟.webp")
    exif = image.getexif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    image.save(folder / "turned.png", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "dot.bmp")
    Image.new("RGB", (1500, 2)).save(folder / "line.tiff")
    assert predict(config, [folder]) == 0
    sizes = {path.stem: Image.open(path).size for path in (tmp_path / "out" / "map").iterdir()}
    special = {"turned": (40, 60), "dot": (1, 1), "line": (1500, 2)}
    assert sizes == {path.stem: special.get(path.stem, (60, 40)) for path in folder.iterdir()}
    maps = {name: np.array(Image.open(tmp_path / "out" / "map" / f"{name}.png")).astype(int) for name in sizes}
    assert np.abs(maps["grey16"] - maps["grey"]).max() <= 1
    turned = load_saliency_model(config.weights, "cpu").predict(np.rot90(np.array(image), -1).copy())
    assert np.abs(maps["turned"] - turned * 255).max() <= 1


def test_a_bad_file_is_named_and_the_rest_is_done(
    config: PredictConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "photos"
    for index in range(5):
        photo(folder / f"good-{index}.jpg", seed=index)
    whole = (folder / "good-0.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (tmp_path / "nothing").mkdir()
    given = [folder, tmp_path / "missing.jpg", tmp_path / "nothing", tmp_path / "absent"]
    assert predict(config, given) == 6
    errors = capsys.readouterr().err
    for name in ("cut.jpg", "empty.png", "text.png", "missing.jpg", "nothing", "absent"):
        assert name in errors
    assert results(tmp_path / "out" / "mask") == [f"good-{index}.png" for index in range(5)]


def test_the_tree_is_kept_and_names_never_collide(config: PredictConfig, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("a.jpg", "a.png", "A.bmp", "deep/er/a.jpg", "deep/b.c.jpg", ".hidden.jpg"):
        photo(folder / name)
    other = photo(tmp_path / "elsewhere" / "a.jpg")
    # The same photo twice, and one that a link names a second time, give one result.
    (folder / "link.jpg").symlink_to(folder / "deep" / "b.c.jpg")
    assert predict(replace(config, save=("mask",)), [folder, folder / "a.jpg", other]) == 0
    names = results(tmp_path / "out" / "mask")
    assert len(names) == 6
    assert {"deep/er/a.png", "deep/b.c.png"} <= set(names)
    assert len({name.casefold() for name in names}) == 6


def test_results_stay_inside_the_output(config: PredictConfig, tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.jpg")
    assert (
        predict(config, [tmp_path / "photos" / ".." / "photos", tmp_path / "photos" / ".." / "photos" / "a.jpg"]) == 0
    )
    assert results(tmp_path / "out") == ["map/a.png", "mask/a.png"]


def test_a_second_call_does_not_mark_the_results_of_the_first(config: PredictConfig, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    photo(folder / "a.jpg")
    for _ in range(2):
        assert predict(replace(config, output=folder), [folder]) == 0
    assert results(folder) == ["a.jpg", "map/a.png", "mask/a.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"threshold": 2.0}, "threshold is 2.0"),
        ({"save": ()}, "save is empty"),
        ({"save": ("masks",)}, "save is masks"),
        ({"threshold": "best"}, "threshold is best"),
        ({"refine": "all"}, "refine is all"),
        ({"smooth": 1.0}, "smooth is 1.0"),
        ({"background": "nowhere.png"}, "background is nowhere.png"),
        ({"weights": Path("nowhere")}, "There is no saliency model"),
    ],
)
def test_wrong_settings_are_refused(config: PredictConfig, tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict(replace(config, **change), [photo(tmp_path / "a.jpg")])
    assert not (tmp_path / "out").exists()


def test_what_exists_is_skipped(config: PredictConfig, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("a.jpg", "deep/b.jpg", "c.jpg"):
        photo(tmp_path / "photos" / name)
    config = replace(config, skip_existing=True)
    assert predict(config, [tmp_path / "photos"]) == 0
    assert "3 photos marked" in capsys.readouterr().out
    (tmp_path / "out" / "mask" / "c.png").unlink()
    (tmp_path / "out" / "map" / "c.png").write_bytes(b"old")
    (tmp_path / "out" / "map" / "deep" / "b.png").write_bytes(b"kept")
    assert predict(config, [tmp_path / "photos"]) == 0
    assert "1 photo marked" in (said := capsys.readouterr().out) and "2 skipped" in said
    assert (tmp_path / "out" / "map" / "deep" / "b.png").read_bytes() == b"kept"
    assert (tmp_path / "out" / "map" / "c.png").read_bytes() != b"old"


@pytest.mark.parametrize(
    ("save", "of_the_video", "code", "said"),
    [
        (("map", "map16"), ["map"], 0, "Videos get no map16, but map: they hold 8 bit and no opacity."),
        (("cutout",), [], 1, "Videos cannot be cutout, so they fail: give --save map or mask, or a --background"),
    ],
)
def test_what_videos_lack_is_said_before(
    config: PredictConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    save: Any,
    of_the_video: list,
    code: int,
    said: str,
) -> None:
    photo(tmp_path / "mixed" / "a.jpg")
    write_video(tmp_path / "mixed" / "b.mp4", [np.zeros((32, 48, 3), np.uint8)] * 3)
    assert predict(replace(config, save=save, skip_existing=True), [tmp_path / "mixed"]) == code
    told = capsys.readouterr()
    assert told.err.count("Videos") == 1 and said in told.err
    assert f"{2 - code} file{'s' * (code == 0)} marked" in told.out and f"{code} failed" in told.out
    for kind in save:
        assert (tmp_path / "out" / kind / "a.png").is_file()
        assert (tmp_path / "out" / kind / "b.mp4").is_file() == (kind in of_the_video)
    assert predict(replace(config, save=save, skip_existing=True), [tmp_path / "mixed"]) == code
    assert "0 files marked" in (told := capsys.readouterr()).out and f"{2 - code} skipped" in told.out


def test_soft_maps_have_16_bits(config: PredictConfig, tmp_path: Path) -> None:
    path = photo(tmp_path / "photo.png")
    assert predict(replace(config, save=("map16",)), [path]) == 0
    map_ = cv2.imread(str(tmp_path / "out" / "map16" / "photo.png"), cv2.IMREAD_UNCHANGED)
    assert map_ is not None and map_.dtype == np.uint16
    expected = load_saliency_model(config.weights, "cpu").predict(path)
    assert np.abs(map_ - expected * 65535).max() < 8  # 1e-4


def test_large_and_small_photos_in_turn(config: PredictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_gan.prediction.jobs.BATCH_PIXELS", 5000)
    monkeypatch.setattr("saliency_gan.prediction.strips.STRIP_PIXELS", 1000)
    sizes = [(48, 64), (90, 100), (20, 30), (20, 30), (100, 60), (90, 90), (10, 10)]
    paths = [photo(tmp_path / f"{index}.png", size, index) for index, size in enumerate(sizes)]
    assert predict(replace(config, save=("map",)), paths) == 0
    model = load_saliency_model(config.weights, "cpu")
    for index, path in enumerate(paths):
        map_ = np.array(Image.open(tmp_path / "out" / "map" / f"{index}.png"))
        assert np.abs(map_ - model.predict(path) * 255).max() <= 0.52


def test_threads_are_given_back(config: PredictConfig, tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{index}.png", seed=index) for index in range(4)]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert predict(replace(config, save=("map",)), paths) == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_photo_too_long_for_jpeg_is_named(
    config: PredictConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    paths = [photo(tmp_path / "long.png", (2, 65600)), photo(tmp_path / "short.png")]
    assert predict(replace(config, save=("overlay", "map")), paths) == 1
    assert "long.png" in capsys.readouterr().err
    assert results(tmp_path / "out") == ["map/long.png", "map/short.png", "overlay/short.jpg"]


def test_what_one_photo_raises_is_that_photos_failure(
    config: PredictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in "abcdefg":
        photo(tmp_path / "photos" / f"{name}.png", (32, 40 if name == "c" else 48))
    refine = predict_module.refine

    def breaking(image: np.ndarray, *rest: Any) -> Any:
        return 1 // 0 if image.shape[1] == 40 else refine(image, *rest)

    monkeypatch.setattr(predict_module, "refine", breaking)
    assert predict(config, [tmp_path / "photos"]) == 1
    said = capsys.readouterr()
    assert "photos/c.png could not be marked (ZeroDivisionError: " in said.err and "6 photos marked" in said.out
    assert results(config.output / "map") == [f"{name}.png" for name in "abdefg"]


def test_photos_and_videos_in_one_folder(config: PredictConfig, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "in" / "a.jpg")
    write_video(tmp_path / "in" / "deep" / "b.mp4", [disc(0)[0]] * 4)
    (tmp_path / "in" / "c.mov").write_bytes(b"")
    assert predict(config, [tmp_path / "in"]) == 1
    assert "c.mov" in capsys.readouterr().err
    assert results(tmp_path / "out") == ["map/a.png", "map/deep/b.mp4", "mask/a.png", "mask/deep/b.mp4"]


def test_other_settings_or_another_model_make_results_again(
    config: PredictConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photo(tmp_path / "a.jpg")
    config = replace(config, skip_existing=True, save=("mask",))
    model = tmp_path / "model"
    shutil.copytree(config.weights, model)
    masks = {}
    for threshold, weights, marked in (
        (0.1, model, 1), (0.1, model, 0), (0.9, model, 1), (0.9, config.weights, 0), (0.1, model, 1),
    ):  # fmt: skip
        assert predict(replace(config, threshold=threshold, weights=weights), [tmp_path / "a.jpg"]) == 0
        assert f"{marked} photo" in capsys.readouterr().out
        mask = (tmp_path / "out" / "mask" / "a.png").read_bytes()
        assert masks.setdefault(threshold, mask) == mask
    assert len(set(masks.values())) == 2
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    safetensors.torch.save_file({name: 2 * value for name, value in tensors.items()}, model / "model.safetensors")
    assert predict(replace(config, threshold=0.1, weights=model), [tmp_path / "a.jpg"]) == 0
    assert "1 photo marked" in capsys.readouterr().out


def test_a_damaged_video_fails_once_and_keeps_its_results(
    config: PredictConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    noise = [np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8) for index in range(12)]
    path = write_video(tmp_path / "in" / "a.mp4", noise)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)
    config = replace(config, skip_existing=True)
    assert predict(config, [tmp_path / "in"]) == 1
    said = capsys.readouterr()
    assert "of about 12 frames could be read" in said.err and "0 videos marked" in said.out
    assert results(tmp_path / "out") == ["map/a.mp4", "mask/a.mp4"]
    assert predict(config, [tmp_path / "in"]) == 0  # it would give the same again
    assert "1 skipped" in capsys.readouterr().out
    path.write_bytes(bytes(content) + bytes(8))
    assert predict(config, [tmp_path / "in"]) == 1  # but a changed file is another one


def test_processes_of_a_job_do_their_shares(
    config: PredictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(5):
        photo(tmp_path / "photos" / f"{index}.jpg")
    done = {}
    for rank in range(2):
        monkeypatch.setattr("saliency_gan.prediction.predict.share", lambda items, rank=rank: items[rank::2])
        predict(replace(config, output=tmp_path / str(rank), save=("map",)), [tmp_path / "photos"])
        done[rank] = results(tmp_path / str(rank))
    assert done == {0: [f"map/{index}.png" for index in (0, 2, 4)], 1: [f"map/{index}.png" for index in (1, 3)]}


def test_files_of_others_are_never_replaced(config: PredictConfig, tmp_path: Path) -> None:
    """As in a data set with images/ and mask/ beside each other."""
    drawn = config.output / "mask" / "photo.png"
    drawn.parent.mkdir(parents=True)
    drawn.write_bytes(b"drawn by hand")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photo.jpg")
    for settings in ({"save": ("mask",)}, {"save": ("map", "mask"), "skip_existing": True}):
        with pytest.raises(UserError, match="mask holds files that predict did not write"):
            predict(replace(config, **settings), [tmp_path / "photo.jpg"])
    assert drawn.read_bytes() == b"drawn by hand" and not (config.output / "map").exists()
    for _ in range(2):
        assert predict(replace(config, save=("map",)), [tmp_path / "photo.jpg"]) == 0
        with pytest.raises(UserError, match="mask holds files that predict did not write"):
            predict(replace(config, save=("mask",)), [tmp_path / "photo.jpg"])


def test_a_file_of_the_user_among_the_results_is_kept(config: PredictConfig, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    config = replace(config, save=("mask",))
    assert predict(config, [tmp_path / "in"]) == 0
    mine = photo(tmp_path / "out" / "mask" / "b.png", seed=3).read_bytes()
    photo(tmp_path / "in" / "b.png", seed=4)
    for _ in range(2):
        assert predict(config, [tmp_path / "in"]) == 0
        assert (tmp_path / "out" / "mask" / "b.png").read_bytes() == mine
        assert results(tmp_path / "out") == ["mask/a.png", "mask/b.png", "mask/b.png.png"]


def test_onnxruntime_takes_the_export_of_the_run_s_own_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    run, path = tmp_path / "run", photo(tmp_path / "photo.png")
    save_tiny(run / "student")
    config = PredictConfig(run=run, output=tmp_path / "out", runtime="onnx", save=("map16",), device="cpu")
    with pytest.raises(UserError, match=r"no file .*export/saliency.onnx: write it with saliency-gan export --run"):
        predict(config, [path])
    export(ExportConfig(run=run))
    assert predict(config, [path]) == 0
    found = np.array(Image.open(tmp_path / "out" / "map16" / "photo.png")) / 65535
    np.testing.assert_allclose(found, load_saliency_model(run / "student", "cpu").predict(path), atol=1e-3)
    named = replace(config, weights=run / "export" / "saliency.onnx")
    assert predict(named, [path]) == 0
    assert predict(replace(named, skip_existing=True), [path]) == 0 and "1 skipped" in capsys.readouterr().out
    model = onnx.load(named.weights)
    model.doc_string = "changed, as a tool that quantises does"
    onnx.save(model, named.weights)
    assert predict(replace(named, skip_existing=True), [path]) == 0 and " 0 skipped" in capsys.readouterr().out
    save_tiny(run / "saliency-adapted")
    weights = load_model(run / "saliency-adapted")
    next(iter(weights.parameters())).data.mul_(1.5)
    weights.save(run / "saliency-adapted")
    with pytest.raises(UserError, match=r"export of another model than .*saliency-adapted"):
        predict(config, [path])


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_after_ctrl_c_no_further_photo_is_begun(runtime: Any) -> None:
    begun: list[int] = []

    def mark(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    config = PredictConfig(runtime=runtime)
    with pytest.raises(KeyboardInterrupt), predict_module._one_core_each(2, config) as pool:
        pool.map(mark, range(100))
        raise KeyboardInterrupt
    assert len(begun) < 50  # two, unless this thread had to wait; all 100 without the interrupt
