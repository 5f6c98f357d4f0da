"""A run folder with everything that the stages write, filled with plausible files."""

import json
from pathlib import Path

import numpy as np
import yaml

from saliency_gan.config import (
    DiscoverConfig,
    EvaluateConfig,
    MasksConfig,
    TrainSaliencyConfig,
    TrainStudentConfig,
    to_plain,
)
from saliency_gan.evaluation.metrics import METRICS
from saliency_gan.images.writing import write_image

EVIL = '<script>alert("x")</script> & <b>bold</b>'
PARTS = ("border", "flat", "edges", "works")


def picture(path: Path, height: int = 60, width: int = 90, seed: int = 0) -> None:
    """A picture of coloured noise blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (max(1, height // 10), max(1, width // 10), 3), np.uint8)
    write_image(path, blocks.repeat(10, axis=0).repeat(10, axis=1)[:height, :width])


def settings(folder: Path, config) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_plain(config), sort_keys=False))


def metrics(folder: Path, steps: int, **curves) -> None:
    lines = [
        json.dumps({"step": step, **{name: curve(step) for name, curve in curves.items()}})
        for step in range(10, steps + 1, 10)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def discover(run: Path) -> None:
    folder = run / "discover"
    settings(folder, DiscoverConfig(run=run, K=12))
    metrics(folder, 400, loss=lambda s: 5 / s**0.3, accuracy=lambda s: 1 - 0.9 ** (s / 40), mae=lambda s: 3 / s**0.1)
    scores = [
        {"index": 7 * rank % 12, "rank": rank, "sign": 1 if rank % 2 else -1, "shift": 6.0, "polarity": "bright"}
        | {"score": 0.9 - 0.05 * rank, "parts": {name: 0.95 - 0.05 * rank for name in PARTS}, "samples": 64}
        for rank in range(1, 13)
    ]
    description = {
        "generator": {"name": EVIL, "sha256": "abcdef0123456789" * 4},
        "latent_dim": 20,
        "K": 12,
        "rca": {"accuracy": 0.875, "low": 0.8412, "high": 0.9034, "samples": 2048},
        "background": {
            "index": 7,
            "sign": 1,
            "shift": 6.0,
            "polarity": "bright",
            "method": "rank",
            "chosen_by": "auto",
        },
        "directions": scores,
        "names": {"7": "lighter ground"},
        "config": {},
    }
    (folder / "directions.json").write_text(json.dumps(description))
    picture(folder / "ranking.png", 700, 500)
    for index in range(12):
        picture(folder / "gallery" / f"direction-{index:03d}.png", 120, 270, index)


def rating(run: Path) -> None:
    kind = {
        "rated": 2,
        "columns": 12,
        "opinions": 4,
        "consistent": 0.75,
        "one_factor": 0.5,
        "mos": 0.625,
        "majority": 1,
    }
    kind |= {"mos_interval": [0.5, 0.75], "absolute": 7.5, "absolute_interval": [6.0, 9.0], "kappa": None}
    learned = {"kind": "learned", "raters": 2, "consistent": 1.0, "one_factor": 0.5, "mos": 0.5}
    result = {
        "raters": [{"name": "ada"}, {"name": EVIL}],
        "kinds": {"learned": kind, "random": kind | {"mos_interval": None, "absolute_interval": None, "kappa": 0.31}},
        "directions": [
            learned | {"index": 7, "name": "lighter ground", "called": ["light", "lighter ground"]},
            learned | {"index": 3, "name": "", "called": [EVIL]},
            learned | {"kind": "random", "index": 0, "name": "", "called": ["noise"]},
        ],
        "confidence": 0.95,
    }
    (run / "rating").mkdir(parents=True, exist_ok=True)
    (run / "rating" / "mos.json").write_text(json.dumps(result))


def masks(run: Path) -> None:
    folder = run / "masks"
    settings(folder, MasksConfig(run=run))
    manifest = {
        "generator": {"name": EVIL, "sha256": "abcdef0123456789" * 4},
        "pairs": 3000,
        "resolution": 64,
        "rejections": {"min_area": 1000, "max_border": 2000},
        "accepted_by_class": {"bonsai": 2900, EVIL: 100},
        "rejections_by_class": {
            "bonsai": {"min_area": 100},
            EVIL: {"min_area": 900, "max_border": 1500},
            "watch": {"max_border": 500},
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    picture(folder / "preview.png", 400, 900)


def saliency(run: Path, name: str = "saliency") -> None:
    folder = run / name
    settings(folder, TrainSaliencyConfig(run=run))
    metrics(folder, 600, loss=lambda s: 1 / s**0.2, learning_rate=lambda s: 1e-3, images_per_second=lambda s: 80)
    with open(folder / "metrics.jsonl", "a") as file:
        for step in (200, 400, 600):
            values = {"validation_iou": 0.4 + step / 2000, "photos_iou": 0.3 + step / 3000, "validation_mae": 0.2}
            file.write(json.dumps({"step": step, **values}) + "\n")
        file.write('{"step": 600, "lo')
    (folder / "model.safetensors").touch()
    picture(folder / "preview.png", 200, 900)


def student(run: Path, name: str = "student") -> None:
    """Two rounds on 200 photos, of which the first one was kept."""
    folder = run / name
    settings(folder, TrainStudentConfig(run=run))
    metrics(folder, 60, loss=lambda s: 1 / s, learning_rate=lambda s: 1e-3)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 60, "agreement": 0.8}) + "\n")
    rounds = [
        {"round": number, "resolution": side, "agreement": 0.8 - 0.05 * abs(number - 1), "area": 0.2, "photos_iou": 0.6}
        for number, side in ((0, 64), (1, 160), (2, 224))
    ]
    rounds[1] |= {"photos_kept": 0.875, "left_out": {"unsure": 1200, EVIL: 5}}
    rounds[2] |= {"photos_kept": 0.91, "left_out": {"views differ": 18}}
    (folder / "rounds.json").write_text(json.dumps(rounds))
    (folder / "config.json").write_text(json.dumps({"about": {"round": 1}}))
    (folder / "model.safetensors").touch()
    picture(folder / "rounds.png", 600, 900)
    picture(folder / "preview.png", 200, 900)


def evaluation(run: Path, name: str = "samples") -> None:
    folder = run / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    figures = {key: 0.1 * number + 0.0123 for number, key in enumerate(METRICS)} | {"n": 43}
    published = {"method": "HS", "supervision": "none", "source": "Yan", "figures": {"iou": 0.508}}
    result = {
        "dataset": {"name": name, "title": f"{name} {EVIL}", "pairs": 43, "skipped": []},
        "model_name": EVIL,
        "model": figures,
        "compared": {"bundled": figures},
        "baselines": {"centre prior": figures},
        "published": [published],
        "counting": "All are means over the images.",
    }
    (folder / f"{name}.json").write_text(json.dumps(result))
    for kind in ("curves", "random", "best", "worst"):
        picture(folder / f"{name}-{kind}.png", 420, 1000)


def predictions(run: Path) -> None:
    for number in range(15):
        picture(run / "predictions" / "overlay" / f"photo-{number:02d}.jpg", 90, 120, number)


def generator(run: Path) -> None:
    metrics(run / "generator", 300, loss_generator=lambda s: 1 + 1 / s, loss_discriminator=lambda s: 2 - 1 / s)
    picture(run / "generator" / "samples" / "step-000100.png", 200, 200)
    picture(run / "generator" / "samples" / "step-000300.png", 210, 200)


def whole(run: Path) -> Path:
    settings(run / "evaluation", EvaluateConfig(run=run))
    for stage in (generator, discover, rating, masks, saliency, evaluation, predictions):
        stage(run)
    student(run)
    student(run, "saliency-adapted")
    return run
