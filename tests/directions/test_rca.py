import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from saliency_gan.directions.deformator import Deformator
from saliency_gan.directions.rca import measure_rca, wilson_interval
from saliency_gan.directions.shifts import ShiftSampler
from saliency_gan.runs.random_streams import Stream, random_stream
from tests.directions.worlds import DiscWorld, cpu_fabric


@given(trials=st.integers(1, 5000), data=st.data())
def test_wilson_bounds_solve_their_equation(trials, data):
    """Each bound p is where the observed share lies 1.96 standard errors sqrt(p (1 - p) / n) away."""
    successes = data.draw(st.integers(0, trials))
    share = successes / trials
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            distance = abs(share - bound)
            assert distance == pytest.approx(
                1.959963984540054 * (bound * (1 - bound) / trials) ** 0.5, rel=1e-6, abs=1e-9
            )


def test_wilson_matches_scipy():
    scipy_stats = pytest.importorskip("scipy.stats")
    for successes, trials in ((0, 10), (10, 10), (7, 23), (1740, 2048)):
        expected = scipy_stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


class Pretender(nn.Module):
    """Always answers 2, and records what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, originals: Tensor, shifted: Tensor) -> tuple[Tensor, Tensor]:
        assert not self.training
        self.shown.append(originals)
        logits = torch.zeros(len(originals), 4)
        logits[:, 2] = 1
        return logits, torch.zeros(len(originals))


def measured(reconstructor: nn.Module, samples: int) -> dict[str, float]:
    generator = DiscWorld()
    sampler = ShiftSampler(generator, None, 4, 6.0, 0.5, torch.device("cpu"))
    deformator = Deformator("coordinate", 8, 4, random_stream(0))
    return measure_rca(sampler, deformator, reconstructor, cpu_fabric(), samples, 64, seed=3)


def test_rca_counts_the_right_answers_of_every_sample():
    pretender = Pretender().train()
    rca = measured(pretender, 1000)
    assert sum(len(images) for images in pretender.shown) == rca["samples"] == 1000
    assert rca["low"] < 0.25 < rca["high"]
    assert rca["accuracy"] * 1000 == pytest.approx(round(rca["accuracy"] * 1000))
    assert (rca["low"], rca["high"]) == wilson_interval(round(rca["accuracy"] * 1000), 1000)
    assert pretender.training, "the mode is given back"
    assert not torch.equal(pretender.shown[0], pretender.shown[1]), "every batch is fresh"


def test_rca_repeats_under_a_seed_and_can_be_left_out():
    assert measured(Pretender(), 130) == measured(Pretender(), 130)
    assert measured(Pretender(), 0) == {}


class Biased(nn.Module):
    """Guesses direction 0 and shift 1.5, and remembers nothing."""

    def forward(self, originals: Tensor, shifted: Tensor) -> tuple[Tensor, Tensor]:
        return torch.eye(4)[:1].expand(len(originals), -1), torch.full((len(originals),), 1.5)


def test_shift_error_is_the_mean_absolute_one_on_the_same_pairs():
    generator = DiscWorld()
    sampler = ShiftSampler(generator, None, 4, 6.0, 0.5, torch.device("cpu"))
    errors, right = [], 0
    for start in range(0, 150, 64):
        sample = sampler.draw(min(64, 150 - start), random_stream(3, Stream.RCA, start))
        errors += [abs(1.5 - shift) for shift in sample.shifts.tolist()]
        right += sum(direction == 0 for direction in sample.directions.tolist())
    rca = measured(Biased(), 150)
    assert rca["shift_mae"] == pytest.approx(sum(errors) / 150, rel=1e-5)
    assert rca["accuracy"] == right / 150


def test_every_step_has_pairs_of_its_own():
    shown = []
    for step in (None, 0, 10, 20, 10):
        pretender = Pretender()
        generator = DiscWorld()
        sampler = ShiftSampler(generator, None, 4, 6.0, 0.5, torch.device("cpu"))
        deformator = Deformator("coordinate", 8, 4, random_stream(0))
        measure_rca(sampler, deformator, pretender, cpu_fabric(), 8, 64, seed=3, step=step)
        shown.append(pretender.shown[0])
    alike = [(one, other) for one in range(5) for other in range(one) if torch.equal(shown[one], shown[other])]
    assert alike == [(4, 2)]
