from pathlib import Path

import cv2
import numpy as np
import pytest

from saliency_gan.config import EvaluateConfig
from saliency_gan.errors import UserError
from saliency_gan.evaluation import benchmarks
from saliency_gan.evaluation.benchmarks import BENCHMARKS, find_dataset
from saliency_gan.images.reading import read_truth


def touch(folder: Path, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def fill(root: Path, photos: str, masks: str, count: int, photo_suffix=".jpg"):
    touch(root / photos, [f"{number:04d}{photo_suffix}" for number in range(count)])
    touch(root / masks, [f"{number:04d}.png" for number in range(count)])


def test_the_sizes_of_the_benchmarks():
    assert {key: benchmark.pairs for key, benchmark in BENCHMARKS.items()} == {
        "ecssd": 1000,
        "duts-te": 5019,
        "dut-omron": 5168,
        "hku-is": 4447,
        "pascal-s": 850,
        "sod": 300,
    }


@pytest.mark.parametrize(
    ("key", "inner", "photos", "masks", "photo_suffix"),
    [
        ("ecssd", "", "images", "ground_truth_mask", ".jpg"),
        ("ecssd", "ECSSD", "images", "masks", ".jpg"),
        ("duts-te", "DUTS-TE", "DUTS-TE-Image", "DUTS-TE-Mask", ".jpg"),
        ("duts-te", "", "Image", "Mask", ".jpg"),
        ("dut-omron", "DUT-OMRON", "DUT-OMRON-image", "pixelwiseGT-new-PNG", ".jpg"),
        ("hku-is", "HKU-IS", "imgs", "gt", ".png"),
        ("pascal-s", "", "datasets/imgs/pascal", "datasets/masks/pascal", ".jpg"),
        ("pascal-s", "PASCAL-S", "Imgs", "Imgs", ".jpg"),
        ("sod", "sod", "Test/images", "Test/masks", ".jpg"),
    ],
)
def test_finds_the_usual_layouts(tmp_path, monkeypatch, key, inner, photos, masks, photo_suffix):
    monkeypatch.setitem(
        BENCHMARKS, key, benchmarks.Benchmark(BENCHMARKS[key].title, 4, "page", BENCHMARKS[key].folders)
    )
    fill(tmp_path / inner, photos, masks, 4, photo_suffix)
    dataset = find_dataset(EvaluateConfig(benchmark=key, root=tmp_path))
    assert dataset.name == dataset.benchmark == key
    assert dataset.unmatched == ()
    assert [pair.name for pair in dataset.pairs] == ["0000", "0001", "0002", "0003"]
    assert dataset.pairs[2].photo == tmp_path / inner / photos / f"0002{photo_suffix}"
    assert dataset.pairs[2].mask == tmp_path / inner / masks / "0002.png"


def test_a_neighbour_is_not_taken_for_the_benchmark(tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "ecssd", benchmarks.Benchmark("ECSSD", 2, "page", (("images", "masks"),)))
    fill(tmp_path / "SOD", "images", "masks", 2)
    fill(tmp_path / "ECSSD", "images", "masks", 2)
    dataset = find_dataset(EvaluateConfig(benchmark="ecssd", root=tmp_path))
    assert dataset.pairs[0].mask.is_relative_to(tmp_path / "ECSSD")


def test_a_benchmark_has_to_be_complete(tmp_path):
    fill(tmp_path, "images", "masks", 6)
    (tmp_path / "images" / "0003.jpg").unlink()
    with pytest.raises(UserError, match=r"1,000 pairs, but .* gives 5 \(6 masks, 5 photos; .*0003\.png.*cuhk\.edu\.hk"):
        find_dataset(EvaluateConfig(benchmark="ecssd", root=tmp_path))


def test_a_benchmark_with_maps(tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "ecssd", benchmarks.Benchmark("ECSSD", 3, "page", (("images", "masks"),)))
    fill(tmp_path, "images", "masks", 3)
    maps = touch(tmp_path / "HS", ["0000.png", "0001.png", "0002.jpg"])
    config = EvaluateConfig(benchmark="ecssd", root=tmp_path, maps=maps)
    assert find_dataset(config).pairs[2].map == maps / "0002.jpg"
    (maps / "0001.png").unlink()
    with pytest.raises(UserError, match="2 maps"):
        find_dataset(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to measure on"),
        ({"masks": "masks"}, "nothing to measure on"),
        ({"images": "images"}, "nothing to measure on"),
        ({"root": "."}, "add --benchmark"),
        ({"benchmark": "duts-te"}, "needs --root DIR.*saliencydetection.net/duts"),
        ({"benchmark": "sod", "root": "nowhere"}, "no folder .*nowhere.*elderlab"),
        ({"benchmark": "sod", "root": "."}, "does not look like SOD"),
        ({"benchmark": "sod", "root": ".", "masks": "masks"}, "leave --images and --masks out"),
        ({"images": "nowhere", "masks": "masks"}, "no folder .*nowhere"),
        ({"images": "empty", "masks": "masks"}, "empty holds no image"),
        ({"images": "other", "masks": "masks"}, r"has the same name in .*masks and .*other"),
        ({"images": "twice", "masks": "masks"}, r"a\.jpg and .*/a\.png differ only"),
    ],
)
def test_says_what_is_wrong(tmp_path, settings, message):
    touch(tmp_path / "masks", ["a.png"])
    touch(tmp_path / "other", ["b.jpg"])
    touch(tmp_path / "twice", ["a.jpg", "a.png"])
    touch(tmp_path / "empty", [])
    paths = {key: value if key == "benchmark" else tmp_path / value for key, value in settings.items()}
    with pytest.raises(UserError, match=message) as caught:
        find_dataset(EvaluateConfig(**paths))
    assert "\n" not in str(caught.value)


def test_own_folders_name_what_has_no_partner(tmp_path):
    images = touch(tmp_path / "photos", ["a.jpg", "b.jpeg", "c.png", ".hidden.jpg", "notes.txt"])
    masks = touch(tmp_path / "truth", ["a.png", "c.png", "d.png"])
    dataset = find_dataset(EvaluateConfig(images=images, masks=masks))
    assert dataset.name == "truth"
    assert dataset.benchmark is None
    assert [(pair.name, pair.photo.name, pair.mask.name) for pair in dataset.pairs] == [
        ("a", "a.jpg", "a.png"),
        ("c", "c.png", "c.png"),
    ]
    assert [sentence.split(":")[1] for sentence in dataset.unmatched] == [" d.png.", " b.jpeg."]


def test_maps_need_no_photos(tmp_path):
    maps, masks = touch(tmp_path / "maps", ["a.png"]), touch(tmp_path / "mine" / "masks", ["a.png"])
    dataset = find_dataset(EvaluateConfig(maps=maps, masks=masks))
    assert dataset.name == "mine"
    assert dataset.pairs[0].photo is None
    assert dataset.pairs[0].map == maps / "a.png"


def test_one_folder_may_hold_photos_and_masks(tmp_path):
    both = touch(tmp_path / "both", ["a.jpg", "a.png", "b.jpg"])
    dataset = find_dataset(EvaluateConfig(images=both, masks=both))
    assert [(pair.photo.name, pair.mask.name) for pair in dataset.pairs] == [("a.jpg", "a.png")]
    assert "b.jpg" in dataset.unmatched[0]


@pytest.mark.parametrize(
    ("values", "truth"),
    [
        ([0, 127, 128, 255], [False, False, True, True]),
        ([0, 1, 1, 0], [False, True, True, False]),
        ([0, 2, 1, 0], [False, False, False, False]),
        ([0, 0, 0, 0], [False, False, False, False]),
    ],
)
def test_reads_masks_of_255_and_of_1(tmp_path, values, truth):
    cv2.imwrite(str(tmp_path / "mask.png"), np.array([values], np.uint8))
    assert read_truth(tmp_path / "mask.png").tolist() == [truth]


def test_own_folders_are_searched_with_their_subfolders_in_any_form_of_unicode(tmp_path):
    images = touch(tmp_path / "photos" / "caf\u00e9", ["a.jpg", "b.jpg"]).parent
    masks = touch(tmp_path / "masks" / "cafe\u0301", ["a.png"]).parent
    touch(images, ["a.jpg"])
    dataset = find_dataset(EvaluateConfig(images=images, masks=masks))
    assert [(pair.name, pair.photo) for pair in dataset.pairs] == [("caf\u00e9/a", images / "caf\u00e9" / "a.jpg")]
    assert "2 of the photos have no partner" in dataset.unmatched[0]


def test_masks_and_maps_may_lie_in_the_folder_of_photos(tmp_path):
    images = touch(tmp_path, ["a.jpg", "b.jpg"])
    masks, maps = touch(tmp_path / "masks", ["a.png", "b.png"]), touch(tmp_path / "maps", ["a.png", "b.png"])
    (tmp_path / "deep").mkdir()
    dataset = find_dataset(EvaluateConfig(images=images, masks=masks, maps=maps))
    assert [pair.name for pair in dataset.pairs] == ["a", "b"] and not dataset.unmatched


def test_maps_of_0_and_1_are_told_by_all_of_them(tmp_path):
    def pairs(*brightest):
        for number, value in enumerate(brightest):
            cv2.imwrite(str(tmp_path / f"{number}.png"), np.array([[0, value]], np.uint8))
        maps = [tmp_path / f"{number}.png" for number in range(len(brightest))]
        return [benchmarks.BenchmarkPair(path.stem, tmp_path, map=path) for path in maps]

    assert benchmarks.maps_are_of_0_and_1(pairs(0, 1, 1))
    assert not benchmarks.maps_are_of_0_and_1(pairs(0, 1, 200))
    assert not benchmarks.maps_are_of_0_and_1(pairs(0, 0))
    broken = benchmarks.BenchmarkPair("x", tmp_path, map=tmp_path / "gone.png")
    assert benchmarks.maps_are_of_0_and_1([broken, *pairs(1)])
