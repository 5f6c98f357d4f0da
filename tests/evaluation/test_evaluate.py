import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from saliency_gan.config import EvaluateConfig
from saliency_gan.errors import UserError
from saliency_gan.evaluation import benchmarks
from saliency_gan.evaluation.baselines import BASELINES, centre_prior
from saliency_gan.evaluation.evaluate import evaluate
from saliency_gan.evaluation.metrics import METRICS, SaliencyMetrics
from saliency_gan.images.reading import read_image

COUNT = 15
FILES = ["{}.json", "{}.md", "{}-curves.png", "{}-random.png", "{}-worst.png", "{}-best.png"]


class FakePredictor:
    """Its saliency is the red channel; `gain` makes one model worse than another."""

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.batches: list[int] = []

    def predict_batch(self, photos):
        self.batches.append(len(photos))
        return [(self.gain * photo[:, :, 0] / 255).astype(np.float32) for photo in photos]


@pytest.fixture
def predictors(monkeypatch):
    """Models by the path that they were loaded from; the name of the folder says how good they are."""
    loaded = {}

    def load(path, device):
        assert device == "cpu"
        loaded[path] = FakePredictor({None: 0.7, "saliency": 0.8, "saliency-adapted": 0.9}.get(path and path.name, 1.0))
        return loaded[path]

    monkeypatch.setattr("saliency_gan.saliency.predictor.load_saliency_model", load)
    return loaded


@pytest.fixture
def folders(tmp_path):
    """Photos whose red channel is their noisy mask; two have another size than their mask."""
    random = np.random.default_rng(0)
    images, masks = tmp_path / "set" / "images", tmp_path / "set" / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    for number in range(COUNT):
        truth = np.zeros((24, 32), np.uint8)
        truth[random.integers(2, 10) : 18, random.integers(2, 12) : 26] = 255
        photo = np.zeros((24, 32, 3), np.uint8)
        photo[:, :, 2] = np.clip(0.5 * truth + random.integers(0, 128, truth.shape), 0, 255)  # BGR
        if number < 2:
            photo = cv2.resize(photo, (50, 40))
        cv2.imwrite(str(images / f"{number:03d}.png"), photo)
        cv2.imwrite(str(masks / f"{number:03d}.png"), truth)
    return images, masks


def config(tmp_path: Path, folders=None, **settings) -> EvaluateConfig:
    images, masks = folders or (None, None)
    return EvaluateConfig(run=tmp_path / "run", images=images, masks=masks, device="cpu", **settings)


def by_hand(folders, make):
    metrics = SaliencyMetrics()
    for path in sorted(folders[0].iterdir()):
        truth = cv2.imread(str(folders[1] / path.name), cv2.IMREAD_GRAYSCALE) > 127
        saliency = make(read_image(path))
        metrics.update(cv2.resize(saliency, truth.shape[::-1]).clip(0, 1), truth)
    return metrics.compute()


def test_model_compared_and_baselines(tmp_path, folders, predictors, capsys):
    path = evaluate(
        config(tmp_path, folders, weights=tmp_path / "mine", compare=("bundled", f"old={tmp_path / 'old'}"), batch=4)
    )
    assert path == tmp_path / "run" / "evaluation" / "set.json"
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(name.format("set") for name in FILES)
    found = json.loads(path.read_text())
    assert found["model"] == pytest.approx(by_hand(folders, lambda photo: (photo[:, :, 0] / 255).astype(np.float32)))
    assert found["baselines"]["centre prior"] == pytest.approx(by_hand(folders, centre_prior))
    assert list(found["compared"]) == ["bundled", "old"]
    assert found["compared"]["bundled"]["mae"] > found["compared"]["old"]["mae"] == found["model"]["mae"]
    assert list(found["baselines"]) == list(BASELINES)
    for figures in (found["model"], *found["compared"].values(), *found["baselines"].values()):
        assert list(figures) == [*METRICS, "n"]
        assert all(isinstance(value, int | float) for value in figures.values())
        assert figures["n"] == COUNT
    assert predictors[None].batches[:4] == [4, 4, 4, 3]
    assert found["published"] == []
    printed = capsys.readouterr().out
    assert "centre prior" in printed
    assert str(path) in printed
    table = path.with_suffix(".md").read_text()
    assert f"| **model** |  | {found['model']['max_f']:.3f} |" in table


@pytest.mark.parametrize(
    ("folders_of_run", "model", "compared"),
    [
        ((), None, []),
        (("saliency",), "saliency", []),
        (("saliency", "saliency-adapted"), "saliency-adapted", ["GAN pairs alone"]),
        (("saliency", "student"), "student", ["GAN pairs alone"]),
        (("saliency-adapted",), "saliency-adapted", []),
    ],
)
def test_takes_the_last_model_of_the_run(tmp_path, folders, predictors, folders_of_run, model, compared):
    for name in folders_of_run:
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "model.safetensors").touch()
    found = json.loads(evaluate(config(tmp_path, folders, baselines=False)).read_text())
    assert next(iter(predictors)) == (model and tmp_path / "run" / model)
    assert list(found["compared"]) == compared
    assert found["baselines"] == {}


def test_finished_maps(tmp_path, folders, capsys):
    maps = tmp_path / "HS"
    maps.mkdir()
    for mask in folders[1].iterdir():
        truth = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(maps / mask.name), cv2.resize(truth, (16, 12), interpolation=cv2.INTER_NEAREST) // 2)
    settings = config(tmp_path, (None, folders[1]), maps=maps)
    path = evaluate(settings)
    assert path.name == "set-HS.json"
    found = json.loads(path.read_text())
    assert found["model"]["iou"] == 0  # nothing reaches one half
    assert found["model"]["max_f"] > 0.9  # but stretched it fits
    assert found["baselines"] == {}
    assert "baselines need the photos" in capsys.readouterr().out


def test_the_worst_and_the_best(tmp_path, folders, predictors):
    """The worst sheet begins with the pair of least IoU, the best one with that of greatest."""
    cv2.imwrite(str(folders[0] / "007.png"), np.zeros((24, 32, 3), np.uint8))
    truth = cv2.imread(str(folders[1] / "011.png"))
    cv2.imwrite(str(folders[0] / "011.png"), truth)
    path = evaluate(config(tmp_path, folders, weights=tmp_path / "mine", baselines=False))
    worst = read_image(path.with_name("set-worst.png"))
    best = read_image(path.with_name("set-best.png"))
    assert worst.shape == best.shape
    assert worst[18 + 64, 64].max() == 0
    assert best[18 + 64, 64].min() == 255


def test_workers_give_the_same_figures(tmp_path, folders, predictors):
    one = evaluate(config(tmp_path, folders, workers=0, output=tmp_path / "one.json"))
    two = evaluate(config(tmp_path, folders, workers=2, batch=3, output=tmp_path / "two.json"))
    assert one.read_text() == two.read_text()
    assert (tmp_path / "two-curves.png").read_bytes() == (tmp_path / "one-curves.png").read_bytes()


def test_own_unreadable_photos_are_named_and_skipped(tmp_path, folders, predictors, capsys):
    (folders[0] / "004.png").write_bytes((folders[0] / "004.png").read_bytes()[:100])
    (folders[1] / "009.png").write_bytes(b"")
    (folders[1] / "alone.png").write_bytes(b"")
    path = evaluate(config(tmp_path, folders, weights=tmp_path / "mine"))
    found = json.loads(path.read_text())
    assert found["model"]["n"] == found["dataset"]["pairs"] == COUNT - 2
    assert ["004.png" in found["dataset"]["skipped"][0], "009.png" in found["dataset"]["skipped"][1]] == [True, True]
    printed = capsys.readouterr().out
    for name in ("004.png", "009.png", "alone.png"):
        assert name in printed
        assert name in path.with_suffix(".md").read_text()


def test_a_benchmark_with_an_unreadable_photo_is_refused(tmp_path, folders, predictors, monkeypatch):
    layout = (("images", "masks"),)
    monkeypatch.setitem(benchmarks.BENCHMARKS, "ecssd", benchmarks.Benchmark("ECSSD", COUNT, "page", layout))
    settings = config(tmp_path, benchmark="ecssd", root=folders[0].parent)
    found = json.loads(evaluate(settings).read_text())
    assert found["dataset"] == {"name": "ecssd", "title": "ECSSD", "pairs": COUNT, "skipped": []}
    assert found["published"][0]["method"] == "HS"
    assert (
        "| HS (Yan et al., CVPR 2013) | none, handcrafted | 0.673 |"
        in (tmp_path / "run" / "evaluation" / "ecssd.md").read_text()
    )
    (folders[0] / "004.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"ECSSD has to be complete, but .*004\.png"):
        evaluate(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compare": ("other",)}, "NAME=PATH"),
        ({"compare": ("=x",)}, "NAME=PATH"),
        ({"compare": ("model=x",)}, "called 'model'"),
        ({"compare": ("Otsu=x",)}, "called 'Otsu'"),
        ({"output": Path("figures.md")}, r"ends in \.json"),
        ({"batch": 0}, "--batch is 0"),
        ({"workers": -1}, "--workers is -1"),
    ],
)
def test_refuses_wrong_settings(tmp_path, folders, predictors, settings, message):
    with pytest.raises(UserError, match=message):
        evaluate(config(tmp_path, folders, weights=tmp_path / "mine", **settings))


def test_a_model_needs_photos(tmp_path, folders, predictors):
    with pytest.raises(UserError, match="--images DIR"):
        evaluate(config(tmp_path, (None, folders[1]), maps=folders[1], compare=("bundled",)))


def test_empty_masks_are_a_mistake(tmp_path, folders, predictors):
    for mask in folders[1].iterdir():
        cv2.imwrite(str(mask), np.full((24, 32), 38, np.uint8))
    with pytest.raises(UserError, match="0 on the background and 255"):
        evaluate(config(tmp_path, folders, weights=tmp_path / "mine"))


def test_a_file_of_the_user_is_not_replaced_by_the_table(tmp_path, folders, predictors):
    notes = tmp_path / "notes.md"
    notes.write_text("# mine\n")
    settings = config(tmp_path, folders, weights=tmp_path / "mine", output=tmp_path / "notes.json")
    with pytest.raises(UserError, match=r"notes\.md is no table of evaluate"):
        evaluate(settings)
    assert notes.read_text() == "# mine\n"
    notes.unlink()
    evaluate(settings)
    evaluate(settings)  # its own table is


def test_a_folder_without_photos_is_named(tmp_path, folders):
    with pytest.raises(UserError, match="There are no photos in"):
        evaluate(config(tmp_path, (folders[0], folders[0])))


def test_nothing_readable(tmp_path, folders, predictors):
    for photo in folders[0].iterdir():
        photo.write_bytes(b"")
    with pytest.raises(UserError, match="None of the 15 pairs of set can be read"):
        evaluate(config(tmp_path, folders, weights=tmp_path / "mine"))
