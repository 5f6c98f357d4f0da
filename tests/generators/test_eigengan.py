import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import TrainGanConfig
from saliency_gan.errors import UserError
from saliency_gan.generators import health, training
from saliency_gan.generators.eigengan import EigenGAN, EigenGANArchitecture, Subspace
from saliency_gan.generators.health import health_warnings, layer_health
from saliency_gan.generators.objectives import generator_loss, gradient_penalty, keep_orthonormal
from saliency_gan.generators.train_gan import train_gan
from saliency_gan.generators.unlabelled_images import load_unlabelled_images
from saliency_gan.generators.zoo import load_generator, save_generator
from saliency_gan.runs.random_streams import random_stream

from .conftest import make_eigengan


@pytest.fixture
def config(class_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "FINAL_BATCHES", 2)
    return TrainGanConfig(
        family="eigengan", images=class_folders, run=tmp_path / "run", device="cpu", resolution=16, latent_dim=10,
        embedding_dim=0, subspace_dim=3, channels=(12, 8, 8), discriminator_channels=(8, 12), steps=6, batch=4,
        generator_loss="hinge", r1=10.0, r1_every=2, lr_generator=2e-3, precision="fp32", sample_every=3,
        checkpoint_every=2, log_every=1, distance_images=0,
    )  # fmt: skip


def trainer_of(config):
    data = load_unlabelled_images(config.images, config.resolution, 3)
    return training.GanTrainer(config, data, make_fabric("cpu", "fp32"))


def test_a_subspace_is_u_l_z_plus_mu_by_hand():
    subspace = make_eigengan().layers()[1]
    points = torch.randn(5, 3, generator=random_stream(0))
    basis, importance, offset = (tensor.detach().double().numpy() for tensor in subspace.parameters())
    expected = points.double().numpy() @ np.diag(importance) @ basis.T + offset
    np.testing.assert_allclose(subspace(points).detach().flatten(1).numpy(), expected, rtol=0, atol=1e-5)
    assert subspace(points).shape == (5, 8, 8, 8)


def test_every_dimension_moves_the_features_of_its_own_layer_only():
    generator = make_eigengan().freeze()
    seen: list[torch.Tensor] = []
    for block in generator.blocks:
        block.register_forward_hook(lambda _module, inputs, _outputs: seen.append(inputs[0]))
    latents, classes = generator.sample_latents(2, random_stream(0)), torch.zeros(2, dtype=torch.int64)
    generator(latents, classes)
    for layer in range(2):
        for index in range(3):
            moved = latents.clone()
            moved[:, generator.column(layer, index)] += 2.0
            generator(moved, classes)
            before, after = seen[layer], seen[-2 + layer]
            step = 2.0 * generator.layers()[layer].importance[index] * generator.bases[layer][:, index]
            torch.testing.assert_close((after - before).flatten(1), step.expand(2, -1), rtol=0, atol=1e-4)
            if layer == 1:
                assert torch.equal(seen[0], seen[-2])


@pytest.mark.parametrize("layer", [0, 1])
def test_without_importance_a_layer_is_its_offset_alone(layer):
    generator = make_eigengan().freeze()
    removed = copy.deepcopy(generator)
    generator.layers()[layer].importance.zero_()
    subspace = removed.layers()[layer]
    subspace.forward = lambda points: subspace.offset.expand(len(points), -1).view(-1, *subspace.shape)
    latents, classes = generator.sample_latents(3, random_stream(1)), torch.zeros(3, dtype=torch.int64)
    torch.testing.assert_close(generator(latents, classes), removed(latents, classes), rtol=0, atol=1e-6)
    moved = latents.clone()
    moved[:, generator.column(layer, 0)] += 3
    assert torch.equal(generator(latents, classes), generator(moved, classes))


def test_gradients_agree_with_finite_differences_in_float64():
    generator = make_eigengan().double().freeze()
    generator.requires_grad_(True)
    latents = generator.sample_latents(2, random_stream(2)).double()
    weights = torch.randn(2, 3, 16, 16, generator=random_stream(3)).double()

    def value() -> torch.Tensor:  # forward ends in float32, so its last steps are repeated here
        features = generator.first(latents[:, :10]).view(2, -1, 4, 4)
        for layer, block in enumerate(generator.blocks):
            features = block(features + generator.layers()[layer](latents[:, 10 + 3 * layer : 13 + 3 * layer]))
        return (torch.tanh(generator.last(F.relu(generator.last_norm(features)))) * weights).sum()

    subspace = generator.layers()[1]
    for parameter in (subspace.basis, subspace.importance, subspace.offset):
        (gradient,) = torch.autograd.grad(value(), parameter)
        direction = torch.randn(parameter.shape, generator=random_stream(4)).double()
        with torch.no_grad():
            parameter.add_(1e-6 * direction)
            above = value()
            parameter.sub_(2e-6 * direction)
            below = value()
            parameter.add_(1e-6 * direction)
        assert float((gradient * direction).sum()) == pytest.approx(float((above - below) / 2e-6), rel=1e-4)


def test_orthogonality_is_the_mean_squared_error_of_the_products():
    generator = make_eigengan()
    assert generator.orthogonality().item() == pytest.approx(0, abs=1e-10)
    basis = generator.layers()[0].basis
    basis.data[:, 1] += 0.5 * basis.data[:, 0]
    products = basis.detach().double().numpy().T @ basis.detach().double().numpy()
    assert generator.orthogonality().item() == pytest.approx(((products - np.eye(3)) ** 2).sum() / 9, rel=1e-5)
    keep_orthonormal(generator)
    np.testing.assert_allclose(generator.bases[0].T @ generator.bases[0], np.eye(3), rtol=0, atol=1e-6)
    assert abs(float(generator.bases[0][:, 0] @ basis.detach()[:, 0])) > 0.9


def test_own_directions_are_named_by_importance():
    generator = make_eigengan().freeze()
    generator.layers()[1].importance.copy_(torch.tensor([-1.0, 5.0, -7.0]))
    assert list(generator.own_directions) == ["L1D1", "L1D2", "L1D3", "L2D1", "L2D2", "L2D3"]
    columns = [int(vector.argmax()) for vector in generator.own_directions.values()]
    assert columns == [10, 11, 12, 15, 14, 13]
    assert all(vector.norm() == 1 and vector.shape == (16,) for vector in generator.own_directions.values())


@pytest.mark.parametrize("num_classes", [1, 3])
def test_saved_and_read_back(tmp_path, num_classes):
    original = make_eigengan(num_classes)
    save_generator(original, tmp_path / "eigen.safetensors", torch.float32)
    loaded = load_generator(str(tmp_path / "eigen.safetensors"))
    assert isinstance(loaded, EigenGAN) and loaded.architecture == original.architecture
    latents, classes = original.sample_latents(3, random_stream(0)), original.sample_classes(3, random_stream(1))
    torch.testing.assert_close(loaded(latents, classes), original.freeze()(latents, classes), rtol=0, atol=1e-6)


def test_the_number_of_parameters_by_hand():
    channels = (256, 128, 64, 32, 16)
    expected = 129 * 256 * 16
    for index, (inputs, outputs) in enumerate(pairwise(channels)):
        expected += inputs * (4 * 2**index) ** 2 * 7 + 6  # U, mu and L
        expected += 2 * inputs + (9 * inputs + 1) * outputs + 2 * outputs + (9 * outputs + 1) * outputs
        expected += (9 * inputs + 1) * outputs
    expected += 2 * 16 + (9 * 16 + 1) * 3
    with torch.device("meta"):
        generator = EigenGAN(EigenGANArchitecture())
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected
    assert generator.latent_dim == 128 + 4 * 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"resolution": 32}, "5 channel numbers make a 64 px generator"),
        ({"subspace_dim": 0}, "subspace_dim 0"),
        ({"embedding_dim": 4}, r"embedding_dim 4 does not go with 1 class"),
        ({"num_classes": 4}, r"embedding_dim 0 does not go with 4 class"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(EigenGANArchitecture(), **change)


def test_r1_is_the_squared_gradient_of_a_linear_critic_and_can_be_differentiated():
    critic = nn.Linear(12, 1).double()
    images = torch.randn(5, 3, 2, 2, generator=random_stream(0)).double().requires_grad_()
    penalty = gradient_penalty(images, critic(images.flatten(1)).squeeze(1))
    assert float(penalty) == pytest.approx(float(critic.weight.square().sum()) / 2, rel=1e-6)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, critic.weight.detach())


def test_losses_of_the_generator():
    scores = torch.tensor([-1.0, 0.5, 3.0])
    assert float(generator_loss(scores, "linear")) == pytest.approx(-2.5 / 3)
    assert float(generator_loss(scores, "hinge")) == pytest.approx((2 + 0.5 + 0) / 3)


def errors_after(trainer, steps):
    """The largest entry of |U^T U - I| in each layer."""
    for _ in range(steps):
        trainer.train_step()
    return [float((basis.T @ basis - torch.eye(3)).abs().max()) for basis in trainer.generator.module.bases]


def test_the_penalty_keeps_the_bases_nearly_orthonormal(config):
    without = errors_after(trainer_of(replace(config, orthogonality=0.0, lr_generator=0.02)), 12)
    with_it = errors_after(trainer_of(replace(config, orthogonality=1000.0, lr_generator=0.02)), 12)
    assert max(with_it) < min(without) / 2


def test_r1_changes_what_the_discriminator_learns(config):
    trainers = [trainer_of(replace(config, r1=weight)) for weight in (0.0, 10.0)]
    for trainer in trainers:
        trainer.train_step()
    plain, penalised = ([one.detach() for one in trainer.discriminator.parameters()] for trainer in trainers)
    assert not all(map(torch.equal, plain, penalised))


def test_exactly_orthonormal_bases(config):
    trainer = trainer_of(replace(config, orthogonality="exact"))
    begin = trainer.generator.module.bases[0].clone()
    assert max(errors_after(trainer, 8)) < 1e-5
    assert not torch.equal(trainer.generator.module.bases[0], begin)
    for basis in trainer.finished_generator().bases:
        assert float((basis.T @ basis - torch.eye(3)).abs().max()) < 1e-5


def test_r1_has_its_turn_every_n_steps_and_is_heavier_for_it(config):
    trainer = trainer_of(config)
    images, classes = torch.randn(4, 3, 16, 16, generator=random_stream(0)), torch.zeros(4, dtype=torch.int64)
    discriminator = trainer.discriminator.module.eval()  # no further power iteration
    watched = images.clone().requires_grad_()
    once = float(gradient_penalty(watched, discriminator(watched, classes)))
    assert once > 0
    assert float(trainer._penalty(images, classes)) == pytest.approx(10.0 * 2 * once, rel=1e-4)
    trainer.step = 1
    assert trainer._penalty(images, classes) == 0.0


def test_a_continued_training_equals_an_uninterrupted_one(config):
    whole = train_gan(config)
    parts = replace(config, run=config.run.parent / "parts")
    train_gan(replace(parts, steps=3))
    assert whole.read_bytes() == train_gan(parts).read_bytes()
    assert "change_L2D3" in (config.run / "generator" / "metrics.jsonl").read_text()


def test_attention_is_for_biggan_alone(config):
    with pytest.raises(UserError, match="--attention_at is for --family biggan"):
        replace(config, embedding_dim=4, attention_at=8).check()


def test_classes_are_those_of_the_folders(config):
    generator = load_generator(str(train_gan(replace(config, embedding_dim=4, steps=1))))
    assert generator.class_names == ("apple", "boat", "cup") and generator.own_directions


def test_images_at_once_do_not_change_what_is_measured(monkeypatch):
    generator = make_eigengan().freeze()
    latents, classes = generator.sample_latents(5, random_stream(0)), torch.zeros(5, dtype=torch.int64)
    whole = layer_health(generator, latents, classes)
    plain, (name, direction) = generator(latents, classes), next(iter(generator.own_directions.items()))
    change = float((generator(latents + direction, classes) - plain).abs().mean())
    assert whole[f"change_{name}"] == pytest.approx(change, rel=1e-5)
    monkeypatch.setattr(health, "AT_ONCE", 2)
    assert layer_health(generator, latents, classes) == pytest.approx(whole, rel=1e-5)


def test_dead_layers_and_greedy_dimensions_are_named():
    generator = make_eigengan().freeze()
    latents, classes = generator.sample_latents(4, random_stream(0)), torch.zeros(4, dtype=torch.int64)
    assert health_warnings(layer_health(generator, latents, classes)) == []
    generator.layers()[0].importance.zero_()
    generator.layers()[1].importance.copy_(torch.tensor([0.1, 20.0, 0.1]))
    warnings = health_warnings(layer_health(generator, latents, classes))
    assert "Layer L1 changes the image by less" in warnings[0]
    assert "One dimension has more than 90% of layer L2" in warnings[1]


def test_subspaces_that_are_too_large_are_refused():
    with pytest.raises(UserError, match="a layer's features have 16 numbers"):
        EigenGANArchitecture(8, 4, 17, 1, 0, (1, 1))
    assert Subspace(2, 4, 3)(torch.zeros(1, 3)).shape == (1, 2, 4, 4)
