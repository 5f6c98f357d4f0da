import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions import deformator as deformator_module
from saliency_gan.directions.rca import measure_rca
from saliency_gan.directions.shifts import ShiftSampler
from saliency_gan.directions.training import METRICS, DiscoveryTrainer, discovery_loss
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.runs.stage_folder import StageFolder
from tests.directions.worlds import tiny_biggan


class ThreeLamps(Generator):
    """Latent coordinates 0, 1 and 2 each light one third of the image; the other three do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.latent_dim, self.num_classes, self.resolution = "lamps", 6, 1, 16
        self.class_names = ("lamps",)

    def forward(self, latents: Tensor, classes: Tensor) -> Tensor:
        lamps = torch.tanh(latents[:, :3].float() / 3)
        return lamps.repeat_interleave(6, dim=1)[:, None, :16, None].expand(-1, 3, -1, 16)

    @property
    def feature_layers(self) -> dict[str, nn.Module]:
        return {}


def trainer_of(generator: Generator, **settings) -> DiscoveryTrainer:
    defaults = {"K": 5, "batch": 4, "reconstructor": "lenet", "device": "cpu", "precision": "fp32"}
    return DiscoveryTrainer(DiscoverConfig(**(defaults | settings)), generator)


def snapshot(module: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in module.state_dict().values()]


def unchanged(module: nn.Module, before: list[Tensor]) -> bool:
    return all(torch.equal(now, then) for now, then in zip(module.state_dict().values(), before, strict=True))


@pytest.mark.parametrize("regression", ["mae", "mse"])
def test_loss_matches_a_float64_loop(regression):
    random = torch.Generator().manual_seed(0)
    logits, predicted = torch.randn(6, 4, generator=random) * 3, torch.randn(6, generator=random) * 4
    directions, shifts = torch.tensor([0, 3, 1, 1, 2, 0]), torch.tensor([5.5, -0.5, 0.5, -6.0, 2.0, 1.0])
    classification = regression_sum = mae = correct = 0.0
    for row in range(6):
        scores = [float(value) for value in logits[row]]
        classification -= scores[directions[row]] - math.log(sum(math.exp(value) for value in scores))
        error = abs(float(predicted[row]) - float(shifts[row]))
        mae += error
        regression_sum += error if regression == "mae" else error**2
        correct += scores.index(max(scores)) == directions[row]
    losses = discovery_loss(logits, predicted, directions, shifts, 0.25, regression)
    assert tuple(losses) == METRICS
    assert losses["loss"].item() == pytest.approx(classification / 6 + 0.25 * regression_sum / 6, rel=1e-5)
    assert losses["loss_direction"].item() == pytest.approx(classification / 6, rel=1e-5)
    assert losses["loss_shift"].item() == pytest.approx(regression_sum / 6, rel=1e-5)
    assert losses["accuracy"].item() == pytest.approx(correct / 6)
    assert losses["mae"].item() == pytest.approx(mae / 6, rel=1e-5)


def test_shifts_and_loss_are_those_of_the_settings(monkeypatch):
    samples, predictions = [], []
    draw = ShiftSampler.draw
    monkeypatch.setattr(ShiftSampler, "draw", lambda *given: samples.append(draw(*given)) or samples[-1])
    settings = {"max_shift": 3.0, "min_shift": 1.0, "regression_weight": 2.0, "regression_loss": "mse"}
    trainer = trainer_of(ThreeLamps(), batch=256, **settings)
    trainer.reconstructor.register_forward_hook(lambda _module, _inputs, output: predictions.append(output))
    trainer.train_step()
    (sample,), ((logits, predicted),) = samples, predictions
    sizes = sample.shifts.abs()
    assert sizes.min() == 1 and 2.9 < sizes.max() <= 3
    assert 0.2 < (sizes == 1).double().mean() < 0.5  # a third of U[-3, 3] is raised to 1
    scores = logits.detach().double().numpy()
    chosen = scores[range(256), sample.directions.tolist()]
    classification = (np.log(np.exp(scores).sum(1)) - chosen).mean()
    squares = np.square(predicted.detach().double().numpy() - sample.shifts.double().numpy()).mean()
    metrics = trainer.mean_metrics()
    assert metrics["loss_shift"] == pytest.approx(squares, rel=1e-5)
    assert metrics["loss"] == pytest.approx(classification + 2 * squares, rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_and_r_learn_and_g_does_not(precision):
    generator = tiny_biggan().requires_grad_(True).train()
    trainer = trainer_of(generator, precision=precision)
    parts = (generator, trainer.deformator, trainer.reconstructor)
    before = [snapshot(part) for part in parts]
    for _ in range(2):
        trainer.train_step()
    assert [unchanged(part, then) for part, then in zip(parts, before, strict=True)] == [True, False, False]
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in generator.parameters())
    assert not generator.training
    matrix = trainer.deformator.matrix
    assert torch.allclose(matrix.T @ matrix, torch.eye(5), atol=1e-5)


@pytest.mark.parametrize("kind", ["coordinate", "random"])
def test_fixed_baselines_train_r_alone(kind):
    trainer = trainer_of(tiny_biggan(), deformator=kind)
    matrix, before = trainer.deformator.matrix.clone(), snapshot(trainer.reconstructor)
    trainer.train_step()
    assert torch.equal(trainer.deformator.matrix, matrix)
    assert not unchanged(trainer.reconstructor, before)
    assert "deformator_optimiser" not in trainer.state()


def test_metrics_are_means_since_the_last_call():
    trainer = trainer_of(tiny_biggan())
    singles = []
    for _ in range(3):
        trainer.train_step()
        singles.append(trainer.mean_metrics())
    again = trainer_of(tiny_biggan())
    for _ in range(3):
        again.train_step()
    means = again.mean_metrics()
    for name in METRICS:
        assert means[name] == pytest.approx(sum(single[name] for single in singles) / 3, rel=1e-5)


def test_learned_directions_find_what_matters_and_are_told_apart():
    """Three directions in six dimensions of which three matter: A has to turn towards those."""
    trainer = trainer_of(ThreeLamps(), K=3, batch=32, lr_deformator=0.05, lr_reconstructor=1e-3, seed=1)

    def share_that_matters() -> float:
        return float(trainer.deformator.matrix.detach()[:3].square().sum() / 3)

    def rca() -> dict[str, float]:
        parts = (trainer.sampler, trainer.deformator, trainer.reconstructor, trainer.fabric)
        return measure_rca(*parts, samples=512, batch=128, seed=0)

    share_before, rca_before = share_that_matters(), rca()
    for _ in range(100):
        trainer.train_step()
    assert share_before < 0.5 and share_that_matters() > 0.8
    assert rca_before["high"] < 0.5 and rca()["low"] > 0.7


def test_state_restores_everything():
    trainer = trainer_of(tiny_biggan(), reconstructor="resnet18")
    for _ in range(3):
        trainer.train_step()
    other = trainer_of(tiny_biggan(), reconstructor="resnet18")
    other.load_state(copy.deepcopy(trainer.state()))
    for one in (trainer, other):
        one.train_step()
    assert trainer.step == other.step == 4
    assert unchanged(trainer.deformator, snapshot(other.deformator))
    assert unchanged(trainer.reconstructor, snapshot(other.reconstructor))
    assert trainer.mean_metrics() == other.mean_metrics()


def test_checkpoint_of_another_generator_is_refused():
    trainer = trainer_of(tiny_biggan())
    with pytest.raises(UserError, match="other weights"):
        trainer.load_state(trainer.state() | {"generator_sha256": "0" * 64})


@pytest.mark.parametrize(
    "damage", [{"reconstructor": {}}, {"totals": torch.zeros(2)}, {"deformator": {"weight": torch.zeros(3)}}]
)
def test_foreign_checkpoint_is_refused(damage, tmp_path):
    trainer = trainer_of(tiny_biggan(), run=tmp_path)
    with StageFolder(trainer.config, "discover") as folder:
        folder.save_checkpoint(trainer.state() | damage)
        with pytest.raises(UserError, match="does not fit these settings"):
            folder.resume(trainer.load_state)


def test_missing_part_is_refused(tmp_path):
    trainer = trainer_of(tiny_biggan(), run=tmp_path)
    state = trainer.state()
    del state["reconstructor_optimiser"]
    with StageFolder(trainer.config, "discover") as folder:
        folder.save_checkpoint(state)
        with pytest.raises(UserError, match=r"does not fit these settings .*reconstructor_optimiser"):
            folder.resume(trainer.load_state)


def test_unknown_class_is_refused():
    with pytest.raises(UserError, match="no class 'cat'"):
        trainer_of(tiny_biggan(), classes=("cat",))


def test_a_cosine_goes_on_only_with_as_many_steps():
    states = {kind: trainer_of(ThreeLamps(), schedule=kind, steps=4).state() for kind in ("constant", "cosine")}
    trainer_of(ThreeLamps(), schedule="constant", steps=8).load_state(states["constant"])
    trainer_of(ThreeLamps(), schedule="cosine", steps=4).load_state(states["cosine"])
    with pytest.raises(UserError, match="falls along a cosine of 4 steps"):
        trainer_of(ThreeLamps(), schedule="cosine", steps=8).load_state(states["cosine"])


def test_a_cosine_lowers_both_rates_to_zero_and_a_constant_rate_stays():
    for schedule, expected in (("cosine", [1.0, 0.8535534, 0.5, 0.1464466]), ("constant", [1.0] * 4)):
        trainer = trainer_of(ThreeLamps(), schedule=schedule, steps=4, lr_deformator=2e-3, lr_reconstructor=1e-3)
        for factor in expected:
            trainer.train_step()
            rates = [optimiser.param_groups[0]["lr"] for _, optimiser, _ in trainer.trained]
            assert rates == pytest.approx([2e-3 * factor, 1e-3 * factor])


def test_a_network_learns_curves_that_can_be_told_apart(monkeypatch):
    monkeypatch.setattr(deformator_module, "MLP_WIDTH", 32)
    trainer = trainer_of(ThreeLamps(), K=3, deformator="mlp", batch=32, lr_deformator=1e-2, lr_reconstructor=1e-2)
    for _ in range(60):
        trainer.train_step()
    before = snapshot(trainer.deformator)
    rca = measure_rca(trainer.sampler, trainer.deformator, trainer.reconstructor, trainer.fabric, 256, 64, 0)
    assert rca["accuracy"] > 0.8
    assert unchanged(trainer.deformator, before) and trainer.deformator.training
