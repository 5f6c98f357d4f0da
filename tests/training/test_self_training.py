import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saliency_gan.config import AdaptConfig, TrainStudentConfig
from saliency_gan.config.self_training import at_round
from saliency_gan.errors import UserError
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.predictor import Predictor
from saliency_gan.training import self_training
from saliency_gan.training.area import keep_area
from saliency_gan.training.marking import MARKED_AT_ONCE, Mark, MarkedPhotos, pack, unpack
from saliency_gan.training.photos import Photos, compress
from saliency_gan.training.round_pictures import preview
from saliency_gan.training.self_training import MARKS_SAVED_EVERY
from saliency_gan.training.train_student import train_student
from tests.saliency.exported import save_tiny
from tests.saliency.toys import TINY_ARCHITECTURE, discs, write_photos
from tests.training.watching import Watch, count_known


def through_a_file(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_marks_come_out_of_a_checkpoint_as_they_went_in() -> None:
    random = np.random.default_rng(0)
    marks = [
        Mark(random.bytes(length), *random.random(4).tolist(), reason)  # type: ignore[arg-type]
        for length, reason in ((5, ""), (0, "unsure"), (1, ""), (900, ""), (0, "too large"))
    ]
    assert unpack(through_a_file(pack(marks))) == marks


@pytest.mark.parametrize("marks", [[], [Mark(b"", 0.25, 0.5, 0.125, 0.0, "views differ")]])
def test_no_mask_at_all_is_no_trouble(marks: list[Mark]) -> None:
    assert unpack(through_a_file(pack(marks))) == marks


def test_checkpoints_fall_between_batches() -> None:
    assert MARKS_SAVED_EVERY % MARKED_AT_ONCE == 0


def test_a_setting_is_one_number_for_all_rounds_or_one_for_each() -> None:
    assert [at_round((5,), number) for number in range(3)] == [5, 5, 5]
    assert [at_round((5, 6, 7), number) for number in range(3)] == [5, 6, 7]


def test_a_preview_without_any_photo_is_white() -> None:
    photos = Photos([compress(image) for image in discs(2)[0]], 32)
    assert preview(photos, [Mark(b"", 0.0, 0.0, 0.0, 0.0, "unsure")] * 2).min() == 255


STUDENT, ADAPT = TrainStudentConfig(), AdaptConfig()


def test_the_defaults_are_accepted() -> None:
    STUDENT.check()
    ADAPT.check()
    replace(ADAPT, steps=(1, 2, 3), scales=(0.5, 1.5), min_area=0.0, max_area=1.0, ema=0.0).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[({name: 0}, f"{name} is 0, but has to be 1 or more") for name in ("batch", "held_out")],
        ({"max_images": 15}, "max_images is 15, but has to be 16 or more"),
        *[({name: 0}, f"{name} is 0") for name in ("mark_side", "grabcut_iterations", "checkpoint_every", "log_every")],
        ({"steps": ()}, "steps is empty"),
        ({"steps": (4, 0, 4, 4)}, "steps is 4,0,4,4"),
        ({"thresholds": ()}, "thresholds has 0 values for 2 rounds"),
        ({"thresholds": (0.5,) * 3}, "thresholds has 3 values for 2 rounds: give one for each, or one for all"),
        ({"resolutions": (160, 160, 160)}, "resolutions has 3 values for 2 rounds"),
        ({"restart": (True, False, True)}, "restart has 3 values"),
        *[
            ({name: value}, f"{name} is {value}, but has to be from 0 to 1")
            for name in ("min_confidence", "min_agreement", "min_area", "max_area", "min_refined_iou", "max_fall")
            for value in (-0.1, 1.5)
        ],
        ({"encoder_lr": 2.0}, "encoder_lr is 2.0"),
        ({"min_area": float("nan")}, "min_area is nan"),
        ({"thresholds": (1.2,)}, "thresholds is 1.2"),
        ({"images": ()}, "images is empty"),
        ({"grabcut_certainty": 0.4}, "grabcut_certainty is 0.4"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"scales": ()}, "scales is empty"),
        ({"scales": (1.0, 0.0)}, "scales is"),
        ({"resolutions": (50,)}, "resolutions is 50, but has to be multiples of 32"),
        ({"resolutions": (0,)}, "resolutions is 0,"),
        ({"resolutions": (8192,)}, "resolutions is 8192, .* at most 4096"),
        ({"workers": -1}, "workers is -1"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"solver_smoothness": -1.0}, "solver_smoothness is -1.0"),
        ({"solver_smoothness": float("inf")}, "solver_smoothness is inf"),
    ],
)
def test_settings_that_no_run_could_use_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(STUDENT, **change).check()


def test_what_they_read_and_write() -> None:
    run, images = Path("r"), (Path("a"), Path("b"))
    student = TrainStudentConfig(run=run, images=images)
    assert student.reads() == [*images, run / "saliency"]
    assert replace(student, teacher=Path("t"), photos=Path("p")).reads() == [*images, Path("t"), Path("p")]
    assert run / "student" / "model.safetensors" in student.writes()
    adapt = AdaptConfig(run=run, images=images, weights=Path("w"), shards="https://example.org/shards")
    assert adapt.reads() == [*images, Path("w")]
    assert run / "saliency-adapted" / "config.json" in adapt.writes()


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_model_marks_the_area_that_it_is_told(outputs: int) -> None:
    photos = Photos([compress(image) for image in discs(8)[0]], 32)
    torch.manual_seed(0)
    model = SaliencyModel(replace(TINY_ARCHITECTURE, outputs=outputs)).eval().requires_grad_(False)
    predictor = Predictor(model, torch.device("cpu"))
    squares = [predictor.squeeze(photos[index]) for index in range(8)]
    before = predictor.mark(squares)
    keep_area(model, predictor, photos, 0.3)
    after = Predictor(model, torch.device("cpu")).mark(squares)
    assert (before >= 0.5).mean() != pytest.approx(0.3, abs=0.05)
    assert (after >= 0.5).mean() == pytest.approx(0.3, abs=0.02)


def test_rate_decay_average_and_augmentation_are_those_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untrained teacher marks photos; what it marks does not matter here."""
    save_tiny(tmp_path / "teacher")
    images = write_photos(tmp_path, 20, size=(32, 32)) / "images"
    config = TrainStudentConfig(
        run=tmp_path / "run", images=(images,), teacher=tmp_path / "teacher", device="cpu", precision="fp32",
        encoder="resnet18", encoder_weights="none", decoder_channels=(8, 8), output_stride=2, workers=0, steps=(5,),
        resolutions=(32,), thresholds=(0.5,), refine=("none",), mark_side=32, min_confidence=0.0, min_agreement=0.0,
        min_area=0.0, max_area=1.0, max_fall=1.0, batch=6, lr=4e-3, encoder_lr=0.5, frozen_stride=1, weight_decay=0.3,
        ema=0.2, augment="flips", log_every=1,
    )  # fmt: skip
    marked: list[MarkedPhotos] = []
    monkeypatch.setattr(self_training, "STATISTICS_BATCHES", 1)
    monkeypatch.setattr(self_training, "MarkedPhotos", lambda *given: marked.append(MarkedPhotos(*given)) or marked[0])
    watch = Watch(monkeypatch, ema=0.2)
    train_student(config)
    rates = [4e-4, *(4e-3 * (1 + math.cos(math.pi * (step / 5 - 0.1) / 0.9)) / 2 for step in range(1, 5))]
    lines = [json.loads(line) for line in (config.run / "student" / "metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines if "learning_rate" in line] == pytest.approx(rates, rel=1e-5)
    for rate, groups in zip(rates, watch.settings, strict=True):
        assert groups == [(pytest.approx(rate), 0.3), (pytest.approx(rate / 2), 0.3)]
    watch.check_average()
    known, mirrored = count_known(np.concatenate(watch.images), marked[0].subset(range(16)).images)
    assert known == 30 and 8 <= mirrored <= 22
