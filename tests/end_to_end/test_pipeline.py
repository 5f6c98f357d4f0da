import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import saliency_gan
from saliency_gan.cli.main import main
from saliency_gan.images.reading import read_image, read_mask
from tests.payload import Payload


def test_every_stage_leaves_its_files(finished: Path) -> None:
    expected = (
        "generator/generator.safetensors", "discover/directions.safetensors", "discover/directions.json",
        "discover/ranking.png", "discover/gallery/index.html", "masks/shard-000000.tar", "masks/manifest.json",
        "masks/preview.png", "saliency/model.safetensors", "saliency/config.json", "predictions/map/0.png",
        "report.html",
    )  # fmt: skip
    assert [name for name in expected if not (finished / name).is_file()] == []


def test_the_manifest_counts_the_pairs_that_the_shards_hold(finished: Path) -> None:
    from saliency_gan.masks.shards import open_shards
    from tests.masks.reading import read_all

    shards = open_shards(finished / "masks")
    images, masks, infos = read_all(shards)
    assert len(images) == len(masks) == len(infos) == shards.manifest["pairs"] == 48
    assert set(np.unique(masks)) <= {0, 255}
    area = np.array([info["area"] for info in infos])
    np.testing.assert_allclose((masks > 0).mean(axis=(1, 2)), area, atol=1e-3)


def test_evaluation_agrees_with_the_written_maps(finished: Path, world: Path) -> None:
    (path,) = (finished / "evaluation").glob("*.json")
    measured = json.loads(path.read_text())["model"]
    errors, ious = [], []
    for photo in sorted((world / "photos" / "images").iterdir()):
        saliency = saliency_gan.load_saliency_model(finished / "saliency" / "model.safetensors").predict(
            read_image(photo)
        )
        truth = read_mask(world / "photos" / "masks" / photo.name) > 127
        errors.append(np.abs(saliency.astype(np.float64) - truth).mean())
        mask = saliency >= 0.5
        ious.append((mask & truth).sum() / (mask | truth).sum())
    assert measured["n"] == 6
    assert measured["mae"] == pytest.approx(np.mean(errors), abs=3e-3)
    assert measured["iou"] == pytest.approx(np.mean(ious), abs=3e-2)


def test_a_run_repeated_in_another_folder_gives_the_same_bytes(finished: Path, world: Path, tmp_path: Path) -> None:
    config = ["--config", str(world / "pipeline.yaml"), "--run", str(tmp_path / "again")]
    assert main(["discover", *config]) == 0
    assert main(["masks", *config]) == 0
    for name in ("masks/shard-000000.tar", "masks/shard-000005.tar", "discover/ranking.png"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes(), name


def test_masks_refuses_the_directions_of_another_generator(
    finished: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(world / "pipeline.yaml"), "--run", str(tmp_path / "other"), "--steps", "1"]
    assert main(["train-gan", *config, "--seed", "9"]) == 0
    shutil.copytree(finished / "discover", tmp_path / "other" / "discover")
    other = tmp_path / "other" / "generator" / "generator.safetensors"
    capsys.readouterr()
    config = config[:-2]
    assert main(["masks", *config, "--generator", str(other)]) == 2
    assert "belong to generator" in capsys.readouterr().err


def test_a_bad_photo_is_named_and_the_rest_is_done(
    finished: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(world / "photos" / "images", photos)
    whole = (photos / "0.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    weights = str(finished / "saliency" / "model.safetensors")
    assert main(["predict", str(photos), "--output", str(tmp_path / "out"), "--weights", weights]) == 1
    assert "cut.png" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "map").iterdir())) == 6


@pytest.mark.parametrize(
    ("verb", "setting", "name"),
    [
        ("masks", "--directions", "directions"),
        ("train-saliency", "--shards", "masks"),
        ("predict", "--weights", "model"),
        ("discover", "--generator", "generator"),
    ],
)
def test_a_pickle_is_never_executed(
    verb: str, setting: str, name: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, code = tmp_path / name, pickle.dumps(Payload(tmp_path / "executed"))
    if verb in ("masks", "train-saliency"):
        target.mkdir()
        for file in ("directions.safetensors", "directions.json", "manifest.json", "shard-000000.tar"):
            (target / file).write_bytes(code)
    else:
        target.write_bytes(code)
    words = [verb, *[str(world / "photos" / "images")] * (verb == "predict")]
    run = ["--run", str(tmp_path / "run"), "--config", str(world / "pipeline.yaml")]
    assert main([*words, *run, setting, str(target)]) == 2
    assert not (tmp_path / "executed").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_predictions_have_the_size_of_the_photo(finished: Path, world: Path, tmp_path: Path) -> None:
    photo = tmp_path / "wide.jpg"
    cv2.imwrite(str(photo), np.full((37, 211, 3), 128, np.uint8))
    weights = str(finished / "saliency" / "model.safetensors")
    save = ["--save", "map,mask,cutout,overlay", "--output", str(tmp_path / "out"), "--weights", weights]
    assert main(["predict", str(photo), *save]) == 0
    for file, channels in (("map/wide.png", 1), ("mask/wide.png", 1), ("cutout/wide.png", 4), ("overlay/wide.jpg", 3)):
        written = cv2.imread(str(tmp_path / "out" / file), cv2.IMREAD_UNCHANGED)
        assert written.reshape(37, 211, -1).shape[2] == channels, file
