import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import MasksConfig, TrainSaliencyConfig
from saliency_gan.errors import UserError
from saliency_gan.images.reading import read_image
from saliency_gan.masks import candidates
from saliency_gan.saliency.model import load_model
from saliency_gan.training import sources
from saliency_gan.training.learner import Learner
from saliency_gan.training.train_saliency import _Training, train_saliency
from saliency_gan.training.validation import PhotoCheck
from tests.masks.discs import DiscGenerator, save_directions
from tests.saliency.toys import TINY, write_photos, write_shards
from tests.training.watching import Watch, count_compiled_calls, count_known


@pytest.fixture(autouse=True)
def few_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_gan.training.train_saliency.STATISTICS_BATCHES", 2)


@pytest.fixture
def config(tmp_path: Path) -> TrainSaliencyConfig:
    write_shards(tmp_path / "run" / "masks", 20)
    return TrainSaliencyConfig(
        run=tmp_path / "run", **TINY, steps=6, validation_pairs=4, checkpoint_every=2, log_every=1
    )


def elsewhere(config: TrainSaliencyConfig, name: str) -> TrainSaliencyConfig:
    return replace(config, run=config.run.parent / name, shards=config.shards or config.run / "masks")


def metrics(config: TrainSaliencyConfig) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (config.run / "saliency" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    learn = Learner.learn

    def failing(self: Learner, *arguments: Any) -> torch.Tensor:
        if self.step == step:
            raise error
        return learn(self, *arguments)

    monkeypatch.setattr(Learner, "learn", failing)


def test_discs_are_learnt(trained: Path) -> None:
    folder = trained / "saliency"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["validation_iou"] > 0.85
    measured = PhotoCheck(trained / "photos", torch.device("cpu")).measure(load_model(folder))
    assert measured["photos_iou"] > 0.85
    about = load_model(folder).about
    assert measured["photos_iou"] == pytest.approx(about["photos_iou"], abs=0.01)  # saved in half precision
    assert about["trained_on"]["generator"] == {"name": "toy", "sha256": "0" * 64}
    assert str(trained) not in json.dumps(about)
    assert read_image(folder / "preview.png").shape == (3 * 34 - 2, 16 * 34 - 2, 3)


@pytest.mark.parametrize(
    ("error", "kept"), [(KeyboardInterrupt(), 3), pytest.param(SystemExit("killed"), 2, marks=pytest.mark.slow)]
)
def test_a_resumed_run_ends_as_one_that_was_never_stopped(
    config: TrainSaliencyConfig, monkeypatch: pytest.MonkeyPatch, error: BaseException, kept: int
) -> None:
    config = replace(config, steps=4, photos=write_photos(config.run / "photos", 2))
    whole = train_saliency(elsewhere(config, "whole"))
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        stop_at(patch, 3, error)
        train_saliency(config)
    step = torch.load(config.run / "saliency" / "checkpoints" / "last.pt", weights_only=True)["step"]
    assert step == kept
    resumed = train_saliency(config)
    assert resumed.read_bytes() == whole.read_bytes()
    assert metrics(config) == metrics(elsewhere(config, "whole"))


@pytest.mark.parametrize("step", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_validation_that_was_interrupted_is_done_again(
    config: TrainSaliencyConfig, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    config = replace(config, steps=4, photos=write_photos(config.run / "photos", 2))
    whole = train_saliency(elsewhere(config, "whole"))
    validate = _Training.validate

    def interrupted(self: _Training) -> dict[str, float]:
        if self.learner.step == step:
            raise KeyboardInterrupt
        return validate(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_Training, "validate", interrupted)
        train_saliency(config)
    assert torch.load(config.run / "saliency" / "checkpoints" / "last.pt", weights_only=True)["step"] == step
    assert train_saliency(config).read_bytes() == whole.read_bytes()
    assert metrics(config) == metrics(elsewhere(config, "whole"))
    assert (config.run / "saliency" / "preview.png").exists()


def test_the_number_of_workers_changes_nothing(config: TrainSaliencyConfig) -> None:
    config = replace(config, steps=2)
    helped = replace(elsewhere(config, "helped"), workers=2)
    assert train_saliency(config).read_bytes() == train_saliency(helped).read_bytes()


def test_the_best_checkpoint_on_the_photos_is_kept(
    config: TrainSaliencyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, photos=write_photos(config.run / "photos", 2))
    quality = iter((0.4, 0.6, 0.5))
    seen: list[dict[str, torch.Tensor]] = []

    def measure(_: PhotoCheck, model: torch.nn.Module) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"photos_iou": next(quality)}

    monkeypatch.setattr(PhotoCheck, "measure", measure)
    best = load_model(train_saliency(config))
    assert (best.about["step"], best.about["photos_iou"]) == (4, 0.6)
    for name, tensor in best.named_parameters():
        torch.testing.assert_close(tensor, seen[1][name], atol=1e-3, rtol=1e-2)
    assert not torch.equal(seen[1]["network.encoder.conv1.weight"], seen[2]["network.encoder.conv1.weight"])


def test_the_papers_setting_trains(config: TrainSaliencyConfig) -> None:
    model = load_model(train_saliency(replace(config, loss="paper", optimiser="adam", steps=2, precision="bf16")))
    assert model.architecture.outputs == 2


def test_rate_decay_and_average_are_those_of_the_settings(
    config: TrainSaliencyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, steps=5, lr=4e-3, lr_drops=(0.4, 0.8), lr_factor=0.5, weight_decay=0.3, ema=0.2)
    watch = Watch(monkeypatch, ema=0.2)
    train_saliency(config)
    rates = [4e-3, 4e-3, 2e-3, 2e-3, 1e-3]
    assert [line["learning_rate"] for line in metrics(config) if "learning_rate" in line] == pytest.approx(rates)
    for rate, groups in zip(rates, watch.settings, strict=True):
        assert groups == [(pytest.approx(rate), 0.3)] * 2
    watch.check_average()


@pytest.mark.parametrize("asked", [False, True])
def test_the_network_runs_compiled_if_that_is_asked_for(
    config: TrainSaliencyConfig, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    calls = count_compiled_calls(monkeypatch)
    train_saliency(replace(config, steps=2, compile=asked))
    assert calls == ({"SaliencyModel": 2} if asked else {})


@pytest.mark.parametrize("backdrop", [0.0, 1.0])
def test_statistics_are_measured_on_pairs_like_those_in_training(config: TrainSaliencyConfig, backdrop: float) -> None:
    config = replace(config, augment="flips", backdrop=backdrop)
    source = sources.open_source(config, None)
    measured_on = np.concatenate(_Training(config, source, make_fabric("cpu", "fp32")).typical)
    known, mirrored = count_known(measured_on, source.typical.subset(range(16)).images)
    assert (known, 16 <= mirrored <= 48) == ((0, False) if backdrop else (64, True))


def test_held_out_pairs_are_never_trained_on(config: TrainSaliencyConfig) -> None:
    source = sources.open_source(config, None)
    training = source.typical.subset(range(len(source.typical)))
    held_out, trained_on = ({image.tobytes() for image in part.images} for part in (source.held_out, training))
    assert (len(held_out), len(trained_on)) == (4, 16)
    assert not held_out & trained_on


@pytest.fixture
def disc_masks(config: TrainSaliencyConfig, monkeypatch: pytest.MonkeyPatch) -> MasksConfig:
    generator = DiscGenerator().freeze()
    monkeypatch.setattr(candidates, "load_chosen", lambda _: generator)
    save_directions(config.run / "discover", generator)
    return MasksConfig(
        run=config.run, directions=config.run / "discover", batch=6, opening=0, device="cpu", precision="fp32"
    )


def test_pairs_drawn_on_the_fly_resume_exactly(
    config: TrainSaliencyConfig, disc_masks: MasksConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, source="generator", steps=4)
    whole = train_saliency(elsewhere(config, "whole"), disc_masks)
    for error in (KeyboardInterrupt(), SystemExit("killed")):
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            stop_at(patch, 3, error)
            train_saliency(elsewhere(config, str(error)), disc_masks)
        assert train_saliency(elsewhere(config, str(error)), disc_masks).read_bytes() == whole.read_bytes()
    assert load_model(whole).about["trained_on"]["generator"]["name"] == "disc"
    with pytest.raises(UserError, match="other pairs"):
        train_saliency(elsewhere(config, "whole"), replace(disc_masks, theta=0.8))


def test_pairs_drawn_on_the_fly_are_seen_once(config: TrainSaliencyConfig, disc_masks: MasksConfig) -> None:
    config = replace(config, source="generator", augment="none")
    source = sources.open_source(config, disc_masks)
    images = np.concatenate([source.held_out.images, *(images for images, _ in source.batches(0, 4))])
    assert len({image.tobytes() for image in images}) == 4 + 4 * 8


@pytest.mark.parametrize("source", ["shards", "generator"])
def test_pairs_are_changed_as_asked(
    config: TrainSaliencyConfig, disc_masks: MasksConfig, tmp_path: Path, source: Any
) -> None:
    config = replace(config, source=source, shards=write_shards(tmp_path / "shards" / "masks", 20))

    def images(**settings: Any) -> np.ndarray:
        opened = sources.open_source(replace(config, **settings), disc_masks)
        return np.concatenate([images for images, _ in opened.batches(0, 4)])

    originals = images(augment="none", backdrop=0.0)
    known, mirrored = count_known(images(augment="flips", backdrop=0.0), originals)
    assert known == 32 and 8 <= mirrored <= 24
    for backdrop, least, most in ((1.0, 30, 32), (0.5, 8, 24)):  # a few discs look the same on another ground
        changed = (images(augment="none", backdrop=backdrop) != originals).any((1, 2, 3))
        assert least <= changed.sum() <= most


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_that_cannot_be_read_any_more_ends_the_run_with_one_sentence(
    config: TrainSaliencyConfig, workers: int
) -> None:
    source = sources.open_source(replace(config, workers=workers), None)
    for shard in (config.run / "masks").glob("*.tar"):
        shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(UserError, match=r"^\S+shard-\d{6}.tar is damaged .{0,200}: delete it and run masks again.$"):
        next(source.batches(0, 2))


def test_a_manifest_of_the_same_shards_is_no_reason_to_refuse(config: TrainSaliencyConfig) -> None:
    train_saliency(replace(config, steps=2))
    path = config.run / "masks" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "config": {"device": "cuda"}}))
    assert train_saliency(replace(config, steps=3)).exists()


def test_other_pairs_are_refused_when_a_run_goes_on(config: TrainSaliencyConfig) -> None:
    train_saliency(replace(config, steps=2))
    write_shards(config.run / "masks", 26)
    with pytest.raises(UserError, match="was trained on other pairs"):
        train_saliency(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_pairs": 20}, "none would be left"),
        ({"validation_pairs": 0}, "validation_pairs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"lr_drops": (600, 850)}, "lr_drops is 600,850, but has to be shares of the steps, from 0 to 1"),
        ({"resolution": 40}, "multiple of 32"),
        ({"encoder": "resnet"}, "There is no encoder"),
        ({"shards": Path("nowhere")}, "There is no folder nowhere"),
        ({"photos": Path("nowhere")}, "There is no folder nowhere"),
        ({"source": "generator"}, "no masks settings"),
    ],
)
def test_wrong_settings_are_refused(config: TrainSaliencyConfig, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_saliency(replace(config, **change))


def test_a_checkpoint_that_is_a_pickle_is_refused(config: TrainSaliencyConfig, tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    checkpoint = config.run / "saliency" / "checkpoints" / "last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=r"last\.pt is damaged"):
        train_saliency(config)
    assert not (tmp_path / "sprung").exists()
