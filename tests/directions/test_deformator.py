import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_gan.directions.deformator import Deformator
from saliency_gan.errors import UserError
from saliency_gan.runs.random_streams import random_stream

KINDS = ("orthonormal", "unit", "linear", "coordinate", "random")


def train_a_little(deformator: Deformator, steps: int = 20) -> None:
    optimiser = torch.optim.Adam(deformator.parameters(), lr=0.05)
    target = torch.randn(deformator.matrix.shape, generator=random_stream(9))
    for _ in range(steps):
        optimiser.zero_grad()
        (deformator.matrix - target).square().sum().backward()
        optimiser.step()


@settings(max_examples=15, deadline=None)
@given(latent_dim=st.integers(2, 20), data=st.data())
def test_orthonormal_columns_stay_orthonormal_while_trained(latent_dim, data):
    count = data.draw(st.integers(1, latent_dim))
    deformator = Deformator("orthonormal", latent_dim, count, random_stream(1))
    before = deformator.matrix.detach().clone()
    train_a_little(deformator)
    matrix = deformator.matrix.detach()
    assert torch.allclose(matrix.T @ matrix, torch.eye(count), atol=1e-5)
    assert latent_dim == count == 1 or not torch.allclose(matrix, before, atol=1e-2)


def test_orthonormal_stays_exact_under_bf16_autocast():
    deformator = Deformator("orthonormal", 120, 120, random_stream(0))
    train_a_little(deformator, 3)
    with torch.autocast("cpu", torch.bfloat16):
        matrix = deformator.matrix
        shift = deformator(torch.tensor([7]), torch.tensor([6.0]))
    assert matrix.dtype == shift.dtype == torch.float32
    assert (matrix.T @ matrix - torch.eye(120)).abs().max() < 1e-5
    assert shift.norm().item() == pytest.approx(6, abs=1e-4)


def test_unit_columns_keep_length_one_and_may_outnumber_the_dimensions():
    deformator = Deformator("unit", 4, 9, random_stream(0))
    train_a_little(deformator)
    assert torch.allclose(deformator.matrix.norm(dim=0), torch.ones(9), atol=1e-6)


def test_linear_columns_are_free():
    deformator = Deformator("linear", 4, 3, random_stream(0))
    assert torch.allclose(deformator.matrix.norm(dim=0), torch.ones(3), atol=1e-6)
    train_a_little(deformator)
    assert (deformator.matrix.norm(dim=0) - 1).abs().max() > 0.05


@pytest.mark.parametrize("kind", ["coordinate", "random"])
def test_fixed_kinds_have_nothing_to_train(kind):
    deformator = Deformator(kind, 7, 5, random_stream(3))
    assert not any(parameter.requires_grad for parameter in deformator.parameters())
    matrix = deformator.matrix
    assert torch.allclose(matrix.T @ matrix, torch.eye(5), atol=1e-6)
    assert torch.equal(matrix, torch.eye(7, 5)) == (kind == "coordinate")


@pytest.mark.parametrize("kind", KINDS)
def test_shift_is_eps_times_column_k(kind):
    deformator = Deformator(kind, 6, 4, random_stream(2))
    directions, shifts = torch.tensor([0, 3, 3, 1]), torch.tensor([2.0, -0.5, 6.0, 0.0])
    moved = deformator(directions, shifts)
    matrix = deformator.matrix.detach().double()
    for row, (k, eps) in enumerate(zip(directions.tolist(), shifts.tolist(), strict=True)):
        assert torch.allclose(moved[row].double(), eps * matrix[:, k], atol=1e-7)


@pytest.mark.parametrize("kind", (*KINDS, "mlp"))
def test_start_depends_on_the_stream_alone(kind):
    torch.manual_seed(1)
    first = Deformator(kind, 6, 4, random_stream(5))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = Deformator(kind, 6, 4, random_stream(5))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the global stream must not be used up"
    assert first.state_dict().keys() == second.state_dict().keys()
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["orthonormal", "coordinate", "random"])
def test_more_orthogonal_directions_than_dimensions_are_refused(kind):
    with pytest.raises(UserError, match=r"K = 13 .* 12 latent dimensions.*--K 12"):
        Deformator(kind, 12, 13, random_stream(0))


@pytest.mark.parametrize("kind", (*KINDS, "mlp"))
def test_no_direction_is_refused(kind):
    with pytest.raises(UserError, match="at least one"):
        Deformator(kind, 12, 0, random_stream(0))


def test_the_network_matches_a_float64_computation():
    deformator = Deformator("mlp", 5, 7, random_stream(1)).eval()
    network = deformator.network
    for norm in network.norms:
        norm.running_mean.uniform_(-1, 1), norm.running_var.uniform_(0.5, 2)
    directions, shifts = torch.tensor([6, 0, 3]), torch.tensor([2.0, -5.0, 0.5])
    moved = deformator(directions, shifts)
    for row, (k, eps) in enumerate(zip(directions.tolist(), shifts.double().tolist(), strict=True)):
        inputs = torch.zeros(7, dtype=torch.float64)
        inputs[k] = eps
        features, seen = inputs, []
        for linear, norm in zip(network.linears, network.norms, strict=True):
            seen.append(linear.weight.double() @ features + linear.bias.double())
            mean, deviation = norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt()
            normed = (sum(seen) - mean) / deviation
            features = torch.where(normed > 0, normed, normed.exp() - 1)
        expected = network.last.weight.double() @ features + network.last.bias.double() + inputs[:5]
        assert torch.allclose(moved[row].double(), expected, atol=1e-5)


def test_a_curve_bends_and_its_column_is_the_slope_near_the_start():
    deformator = Deformator("mlp", 6, 4, random_stream(2)).eval()
    ends = [deformator(torch.tensor([3]), torch.tensor([eps]))[0] for eps in (-6.0, -1.0, 1.0, 6.0)]
    assert torch.allclose(deformator.matrix[:, 3], (ends[2] - ends[1]) / 2, atol=1e-6)
    assert (ends[3] - ends[0] - 6 * (ends[2] - ends[1])).norm() > 1e-3
    assert deformator.matrix.shape == (6, 4) and deformator.matrix.dtype == torch.float32
