import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from saliency_gan.compute.averaging import measure_statistics
from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import TrainGanConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.generators import train_gan as stage
from saliency_gan.generators import training
from saliency_gan.generators.class_folders import load_class_folders
from saliency_gan.generators.eigengan import EigenGAN
from saliency_gan.generators.train_gan import train_gan
from saliency_gan.generators.zoo import load_generator
from saliency_gan.images.reading import read_image
from saliency_gan.images.tensors import to_signed
from saliency_gan.runs.random_streams import Stream, random_stream
from tests.training.watching import count_compiled_calls


@pytest.fixture(autouse=True)
def few_statistics(monkeypatch):
    monkeypatch.setattr(training, "FINAL_BATCHES", 2)


@pytest.fixture
def config(class_folders, tmp_path):
    def make(run="run", **changes):
        settings = {
            "images": class_folders,
            "run": tmp_path / run,
            "device": "cpu",
            "resolution": 16,
            "latent_dim": 12,
            "embedding_dim": 4,
            "channels": (16, 12, 8),
            "discriminator_channels": (8, 12),
            "attention_at": 8,
            "steps": 6,
            "batch": 4,
            "precision": "fp32",
            "sample_every": 4,
            "checkpoint_every": 2,
            "log_every": 1,
            "distance_images": 0,
        }
        return TrainGanConfig(**(settings | changes))

    return make


@pytest.fixture
def trainer(config):
    settings = config()
    data = load_class_folders(settings.images, settings.resolution)
    return training.GanTrainer(settings, data, make_fabric("cpu", "fp32"))


def metrics_of(config):
    lines = (config.run / "generator" / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "images_per_second"} for line in lines]


def test_losses_are_the_hinge_losses_of_the_scores(trainer):
    scores = []
    trainer.discriminator.register_forward_hook(lambda _module, _inputs, output: scores.append(output.tolist()))
    for _ in range(3):
        scores.clear()
        losses = trainer.train_step()
        reals, fakes, judged = scores[0][:4], scores[0][4:], scores[1]
        hinge = sum(max(0, 1 - score) for score in reals) / 4 + sum(max(0, 1 + score) for score in fakes) / 4
        assert losses["loss_discriminator"].item() == pytest.approx(hinge, rel=1e-5)
        assert losses["loss_generator"].item() == pytest.approx(-sum(judged) / 4, rel=1e-5)
        assert losses["score_real"].item() == pytest.approx(sum(reals) / 4, rel=1e-4, abs=1e-6)
        assert losses["score_fake"].item() == pytest.approx(sum(fakes) / 4, rel=1e-4, abs=1e-6)


def test_a_step_changes_both_networks_and_leaves_the_discriminator_trainable(trainer):
    before = [
        [parameter.clone() for parameter in module.parameters()]
        for module in (trainer.generator, trainer.discriminator)
    ]
    trainer.train_step()
    for module, old in zip((trainer.generator, trainer.discriminator), before, strict=True):
        changed = [not torch.equal(now, then) for now, then in zip(module.parameters(), old, strict=True)]
        assert sum(changed) > 0.8 * len(changed)
    assert all(parameter.requires_grad for parameter in trainer.discriminator.parameters())


def test_both_optimisers_are_adam_without_momentum_at_their_own_rates(config):
    settings = config(lr_generator=1e-4, lr_discriminator=3e-4)
    data = load_class_folders(settings.images, settings.resolution)
    trainer = training.GanTrainer(settings, data, make_fabric("cpu", "fp32"))
    for optimiser, rate in ((trainer.generator_optimiser, 1e-4), (trainer.discriminator_optimiser, 3e-4)):
        assert isinstance(optimiser, torch.optim.Adam)
        assert [(group["lr"], group["betas"]) for group in optimiser.param_groups] == [(rate, (0.0, 0.99))]


@pytest.mark.parametrize("asked", [False, True])
def test_both_networks_run_compiled_if_that_is_asked_for(config, monkeypatch, asked):
    calls = count_compiled_calls(monkeypatch)
    train_gan(config(compile=asked, steps=2, sample_every=100))
    assert calls == ({"BigGAN": 2, "ResidualDiscriminator": 4} if asked else {})


def test_average_follows_its_formula(trainer):
    expected = [parameter.double() for parameter in trainer.average.parameters()]
    for step in range(1, 5):
        trainer.train_step()
        decay = min(trainer.config.ema, (1 + step) / (10 + step))
        expected = [
            decay * old + (1 - decay) * new.detach().double()
            for old, new in zip(expected, trainer.generator.parameters(), strict=True)
        ]
    for average, value in zip(trainer.average.parameters(), expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-7)


def test_statistics_are_the_means_over_fresh_batches(trainer):
    trainer.train_step()
    measure_statistics(trainer.average, trainer._fresh_batches(3))
    means, variances = [], []
    for index in range(3):
        random = random_stream(trainer.config.seed, Stream.GAN_STATISTICS, index)
        latents = torch.randn(64, 12, generator=random)
        first = trainer.average.first
        features = latents[:, :4].double() @ first.weight.T.double() + first.bias.double()
        features = features.view(64, 16, 16).transpose(0, 1).flatten(1)
        means.append(features.mean(dim=1))
        variances.append(features.var(dim=1))
    norm = trainer.average.blocks[0].norm1.norm
    torch.testing.assert_close(norm.running_mean.double(), sum(means) / 3, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), sum(variances) / 3, rtol=1e-4, atol=1e-5)
    assert not trainer.average.training


def test_real_batches_are_flipped_half_the_time(trainer):
    flipped = 0
    for index in range(50):
        images, labels = trainer._real_batch(random_stream(index))
        pictures = to_signed(trainer.data.images)
        for image, label in zip(images, labels, strict=True):
            straight = (pictures == image).all(dim=(1, 2, 3))
            mirrored = (pictures == image.flip(2)).all(dim=(1, 2, 3))
            assert (straight | mirrored).any()
            assert set(trainer.data.labels[straight | mirrored].tolist()) == {label.item()}
            flipped += int(mirrored.any() and not straight.any())
    assert 70 <= flipped <= 130  # of 200; five sigma is 35


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_writes_a_generator_samples_and_metrics(config, precision, capsys):
    settings = config(precision=precision)
    path = train_gan(settings)
    assert path == settings.run / "generator" / "generator.safetensors"
    assert "18 images in 3 classes" in capsys.readouterr().out
    generator = load_generator(str(path))
    assert generator.class_names == ("apple", "boat", "cup")
    images = generator(generator.sample_latents(4, random_stream(0)), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 3, 16, 16) and images.isfinite().all() and images.std() > 0.01
    metrics = metrics_of(settings)
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert set(metrics[0]) == {"step", "loss_discriminator", "loss_generator", "score_real", "score_fake"}
    samples = settings.run / "generator" / "samples"
    assert [path.name for path in samples.iterdir()] == ["step-000004.png"]
    assert read_image(samples / "step-000004.png").shape == (8 * 18 - 2, 12 * 18 - 2, 3)


@pytest.fixture
def uninterrupted(config):
    """Generator file and metrics of a run that nothing disturbed."""
    settings = config("uninterrupted")
    return train_gan(settings).read_bytes(), metrics_of(settings)


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is saved."""


def kill_at_step_five(settings, monkeypatch):
    train_step = training.GanTrainer.train_step

    def die_at_five(trainer):
        if trainer.step == 5:
            raise Killed
        return train_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(training.GanTrainer, "train_step", die_at_five)
        with pytest.raises(Killed):
            train_gan(settings)


def test_a_killed_run_goes_on_to_the_same_numbers(config, uninterrupted, monkeypatch):
    settings = config()
    kill_at_step_five(settings, monkeypatch)
    assert [line["step"] for line in metrics_of(settings)] == [1, 2, 3, 4, 5]
    assert not (settings.run / "generator" / "generator.safetensors").exists()
    assert train_gan(settings).read_bytes() == uninterrupted[0]
    assert metrics_of(settings) == uninterrupted[1]


def test_ctrl_c_finishes_the_step_saves_and_goes_on_to_the_same_numbers(config, uninterrupted, monkeypatch):
    settings = config(checkpoint_every=100)
    augment, calls = training.augment, []

    def interrupt_in_the_middle_of_the_third_step(*arguments):
        calls.append(arguments)
        if len(calls) == 6:  # twice a step; the discriminator has been updated, the generator has not
            os.kill(os.getpid(), signal.SIGINT)
        return augment(*arguments)

    monkeypatch.setattr(training, "augment", interrupt_in_the_middle_of_the_third_step)
    with pytest.raises(KeyboardInterrupt):
        train_gan(settings)
    checkpoint = torch.load(settings.run / "generator" / "checkpoints" / "last.pt", weights_only=True)
    assert checkpoint["step"] == 3
    assert train_gan(settings).read_bytes() == uninterrupted[0]
    assert metrics_of(settings) == uninterrupted[1]


def test_more_steps_go_on_from_a_finished_run(config, uninterrupted):
    train_gan(config(steps=4))
    assert train_gan(config(steps=6)).read_bytes() == uninterrupted[0]


def test_a_finished_run_is_not_trained_again(config, uninterrupted, monkeypatch):
    monkeypatch.setattr(training.GanTrainer, "train_step", None)
    assert train_gan(config("uninterrupted")).read_bytes() == uninterrupted[0]


def test_other_classes_or_settings_are_refused_on_resume(config, class_folders):
    train_gan(config(steps=2))
    with pytest.raises(UserError, match=r"was begun with batch = 4, but batch = 2 was asked for"):
        train_gan(config(steps=4, batch=2))
    (class_folders / "boat").rename(class_folders / "ship")
    with pytest.raises(UserError, match=r"trained on other classes than the 3 in .*restore the images or choose"):
        train_gan(config(steps=4))


def test_damaged_and_foreign_checkpoints_are_refused(config):
    settings = config(steps=2)
    train_gan(settings)
    path = settings.run / "generator" / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    for change in ({"generator": {}}, {"generator_optimiser": None}, {"discriminator": {"a": torch.zeros(1)}}):
        torch.save(state | change, path)
        with pytest.raises(UserError, match="does not fit these settings"):
            train_gan(settings)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last.pt is damaged"):
        train_gan(settings)


def test_a_full_disk_ends_the_run_with_a_sentence(config, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StageError, match="The disk is full"):
        train_gan(config())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resolution": 128}, "px generator, but resolution is 128"),
        ({"discriminator_channels": (4,) * 9}, "9 discriminator_channels halve"),
        ({"start": Path("nowhere")}, "There is no folder nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_images_are_read(config, monkeypatch, changes, sentence):
    monkeypatch.setattr(stage, "_read_images", lambda _config: pytest.fail("images were read"))
    with pytest.raises(UserError, match=sentence):
        train_gan(config(**changes))


def test_other_images_on_resume_are_said(config, class_folders, capsys):
    train_gan(config(steps=1))
    assert "images differ" not in capsys.readouterr().out
    next((class_folders / "apple").iterdir()).unlink()
    train_gan(config(steps=2))
    assert "The images differ from those that this run began with." in capsys.readouterr().out


def test_a_discriminator_with_a_nan_is_refused(config):
    finished = train_gan(config(steps=1)).parent
    path = finished / "discriminator.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(UserError, match="not every weight is a finite number"):
        train_gan(config("other", start=finished))


def test_a_discriminator_too_deep_for_the_images_is_refused(config):
    with pytest.raises(UserError, match="4 discriminator_channels halve 16 px images below one pixel"):
        train_gan(config(discriminator_channels=(8, 8, 8, 8)))


def test_a_training_goes_on_from_the_weights_of_a_finished_run(config):
    first = train_gan(config("first")).parent
    second = config("second", start=first, steps=1, lr_generator=0.0, lr_discriminator=0.0)
    train_gan(second)
    before, after = (load_generator(str(run / "generator.safetensors")) for run in (first, second.run / "generator"))
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-6, msg=name)


def test_a_training_begins_with_the_discriminator_of_another_family(config):
    first = train_gan(config("first")).parent
    settings = {"family": "eigengan", "latent_dim": 8, "subspace_dim": 2, "attention_at": 0}
    still = {"steps": 1, "lr_generator": 0.0, "lr_discriminator": 0.0}
    second = train_gan(config("second", start_discriminator=first, **settings, **still)).parent
    assert isinstance(load_generator(str(second / "generator.safetensors")), EigenGAN)
    old, new = (load_file(run / "discriminator.safetensors") for run in (first, second))
    weights = [name for name in old if name.endswith("original")]
    assert weights
    for name in weights:
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=0, msg=name)
    with pytest.raises(UserError, match="There is no"):
        train_gan(config("lone", start_discriminator=first / "nowhere", **settings))


def test_a_start_of_other_sizes_or_without_its_discriminator_is_refused(config):
    first = train_gan(config("first")).parent
    with pytest.raises(UserError, match="other sizes"):
        train_gan(config("wide", start=first, channels=(16, 16, 8)))
    (first / "discriminator.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="damaged or no discriminator"):
        train_gan(config("torn", start=first))
    (first / "discriminator.safetensors").unlink()
    with pytest.raises(UserError, match="There is no"):
        train_gan(config("lone", start=first))


@pytest.fixture
def digits(config, tmp_path):
    """Settings of a tiny SN-GAN on grey pictures of an archive."""
    pictures = np.random.default_rng(0).integers(0, 256, (10, 16, 16), np.uint8)
    np.savez(tmp_path / "digits.npz", x_train=pictures)

    def make(run="digits", **changes):
        sizes = {"latent_dim": 10, "channels": (12, 8, 8), "attention_at": 0, "image_channels": 1}
        return config(run, **({"family": "sngan", "images": tmp_path / "digits.npz", **sizes} | changes))

    return make


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_sngan_is_trained_on_grey_images_without_classes(digits, precision, capsys):
    settings = digits(precision=precision)
    generator = load_generator(str(train_gan(settings)))
    assert "10 images\n" in capsys.readouterr().out
    assert (generator.num_classes, generator.channels, generator.resolution) == (1, 1, 16)
    images = generator(generator.sample_latents(4, random_stream(0)), torch.zeros(4, dtype=torch.int64))
    assert images.shape == (4, 1, 16, 16) and images.isfinite().all() and images.std() > 0.01
    assert set(metrics_of(settings)[0]) == {"step", "loss_discriminator", "loss_generator", "score_real", "score_fake"}
    samples = settings.run / "generator" / "samples" / "step-000004.png"
    assert read_image(samples).shape == (8 * 18 - 2, 12 * 18 - 2, 3)


def test_a_killed_sngan_goes_on_to_the_same_numbers(digits, monkeypatch):
    expected, metrics = train_gan(digits()).read_bytes(), metrics_of(digits())
    broken = digits("broken")
    kill_at_step_five(broken, monkeypatch)
    assert train_gan(broken).read_bytes() == expected
    assert metrics_of(broken) == metrics


def test_an_sngan_learns_from_class_folders_as_from_any_folder(digits, class_folders, capsys):
    generator = load_generator(str(train_gan(digits(images=class_folders, image_channels=3, steps=1))))
    assert "18 images\n" in capsys.readouterr().out
    assert (generator.num_classes, generator.channels) == (1, 3)


def test_images_are_mirrored_only_where_that_is_asked_for(digits):
    for flip, share in ((False, 0.0), (True, 0.5)):
        settings = digits(flip=flip)
        trainer = training.GanTrainer(settings, stage._read_images(settings), make_fabric("cpu", "fp32"))
        pictures = to_signed(trainer.data.images)
        batches = [trainer._real_batch(random_stream(index))[0] for index in range(50)]
        straight = [(pictures == image).all(dim=(1, 2, 3)).any().item() for batch in batches for image in batch]
        assert 1 - sum(straight) / 200 == pytest.approx(share, abs=0.18 * share)  # five sigma


def test_an_sngan_goes_on_from_a_finished_one_but_not_from_another_family(digits, config):
    first = train_gan(digits()).parent
    train_gan(digits("second", start=first, steps=1))
    with pytest.raises(UserError, match="holds a generator of 1 classes that differ from the 3"):
        train_gan(config("third", start=first))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_channels": 2}, "--image_channels is 2, but has to be 3 for colour or 1 for grey"),
        ({"exclude": ("boat",)}, "--exclude is for class folders: leave it out"),
        ({"min_images": 9}, "--min_images is for class folders: leave it out"),
        ({"attention_at": 8}, "--attention_at is for --family biggan"),
        ({"subspace_dim": 8}, "--subspace_dim is for --family eigengan"),
        ({"orthogonality": "exact"}, "--orthogonality is for --family eigengan"),
        ({"resolution": 32}, "3 channel numbers make a 16 px generator, but resolution is 32"),
    ],
)
def test_settings_that_an_sngan_does_not_have_are_refused(digits, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        train_gan(digits(**changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("resolution", "latent_dim", "batch", "r1_every")),
        *((name, 0) for name in ("sample_every", "checkpoint_every", "log_every")),
        *((name, -1) for name in ("steps", "embedding_dim", "attention_at", "distance_images")),
        *((name, -0.1) for name in ("lr_generator", "lr_discriminator", "r1", "orthogonality")),
        *((name, value) for name in ("translation", "colour") for value in (-0.1, 1.1)),
        ("ema", 1.0),
        ("distance_images", 1),
        ("embedding_dim", 0),
    ],
)
def test_numbers_that_cannot_work_are_refused(config, name, value):
    with pytest.raises(UserError, match=f"--{name} is {value}, but has to be"):
        config(**{name: value}).check()


@pytest.mark.parametrize("name", ["channels", "discriminator_channels"])
@pytest.mark.parametrize(("value", "shown"), [((), "empty"), ((8, 0), "8,0"), ((-4, 8), "-4,8")])
def test_numbers_of_channels_that_cannot_work_are_refused(config, name, value, shown):
    with pytest.raises(UserError, match=f"--{name} is {shown}, but has to be one or more numbers of 1 or more"):
        config(**{name: value}).check()


def test_grey_photos_stand_below_generated_images_and_leave_with_them(digits, tmp_path):
    photos = tmp_path / "grey"
    photos.mkdir()
    for level in (0, 90, 180, 255):
        Image.new("L", (16, 16), level).save(photos / f"{level}.png")
    settings = digits(images=photos, image_channels=1, steps=1, distance_images=3)
    path = train_gan(settings)
    nearest = read_image(path.with_name("nearest.png"))
    below = nearest[nearest.shape[0] // 2 :]
    assert {0, 90, 180, 255} >= set(np.unique(below[4:12, 4:12])) and path.with_name("distance.json").exists()

    train_gan(dataclasses.replace(settings, steps=2, distance_images=0))  # another generator, which is not measured
    assert not path.with_name("nearest.png").exists() and not path.with_name("distance.json").exists()


def test_a_single_photo_has_no_distance(digits, tmp_path):
    (tmp_path / "one").mkdir()
    Image.new("L", (16, 16)).save(tmp_path / "one" / "photo.png")
    path = train_gan(digits(images=tmp_path / "one", steps=1, distance_images=2))
    assert path.exists() and not path.with_name("distance.json").exists()


def test_a_grey_biggan_is_refused(config):
    with pytest.raises(UserError, match="--image_channels is 1, but has to be 3: biggan draws in colour"):
        train_gan(config(image_channels=1))


def test_a_projected_discriminator_trains_its_heads_alone(config, capsys):
    settings = config(discriminator="projected", feature_side=64, steps=2, checkpoint_every=1, distance_images=20)
    data = load_class_folders(settings.images, settings.resolution)
    trainer = training.GanTrainer(settings, data, make_fabric("cpu", "fp32"))
    eye = {name: tensor.clone() for name, tensor in trainer.eye.state_dict().items()}
    before = [parameter.clone() for parameter in trainer.discriminator.parameters()]
    drawn = trainer.generator.module.first.weight.clone()
    losses = trainer.train_step()
    assert all(np.isfinite(float(value)) for value in losses.values())
    assert all(torch.equal(tensor, eye[name]) for name, tensor in trainer.eye.state_dict().items())
    changed = [not torch.equal(now, then) for now, then in zip(trainer.discriminator.parameters(), before, strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    assert not torch.equal(trainer.generator.module.first.weight, drawn)
    assert not any("eye" in name or "encoder" in name for name in trainer.state()["discriminator"])

    path = train_gan(settings)
    assert "distance to 18 photos" in capsys.readouterr().out
    found = json.loads((path.parent / "distance.json").read_text())
    assert found["generated"] == 20 and found["photos"] == 18 and found["low"] < found["frechet"] < found["high"]
    assert read_image(path.parent / "nearest.png").shape[2] == 3
    whole = path.read_bytes()
    parts = config("parts", discriminator="projected", feature_side=64, steps=1, checkpoint_every=1)
    train_gan(parts)
    assert train_gan(dataclasses.replace(parts, steps=2)).read_bytes() == whole


def test_a_discriminator_of_another_kind_is_left_and_begins_anew(config, capsys):
    first = train_gan(config("first", steps=1)).parent
    train_gan(config("second", steps=1, start=first, discriminator="projected", feature_side=64))
    assert "is a residual discriminator, so the projected one begins anew" in capsys.readouterr().out
    with pytest.raises(UserError, match="no discriminator of these sizes"):
        train_gan(config("third", steps=1, start_discriminator=first, discriminator="projected", feature_side=64))


def test_r1_is_for_the_residual_discriminator(config):
    with pytest.raises(UserError, match="--r1 is for --discriminator residual"):
        train_gan(config(discriminator="projected", r1=1.0))
