import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saliency_gan.directions.deformator import Deformator
from saliency_gan.directions.shifts import ShiftSampler, draw_both
from saliency_gan.runs.random_streams import random_stream
from tests.directions.worlds import DiscWorld, tiny_biggan

CPU = torch.device("cpu")


@settings(max_examples=25, deadline=None)
@given(max_shift=st.floats(0.1, 20), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_shifts_stay_in_range_and_keep_their_sign(max_shift, share, seed):
    min_shift = share * max_shift
    sampler = ShiftSampler(DiscWorld(), None, 3, max_shift, min_shift, CPU)
    raised = sampler.draw(200, random_stream(seed)).shifts
    plain = ShiftSampler(DiscWorld(), None, 3, max_shift, 0.0, CPU).draw(200, random_stream(seed)).shifts
    assert (raised.abs() <= max_shift + 1e-5).all()
    assert (raised.abs() >= min_shift - 1e-5).all()
    assert torch.equal(raised.sign(), plain.sign())
    untouched = plain.abs() >= min_shift
    assert torch.equal(raised[untouched], plain[untouched])


def test_the_papers_distribution():
    sample = ShiftSampler(DiscWorld(), None, 5, 6.0, 0.5, CPU).draw(60_000, random_stream(0))
    assert abs(sample.shifts.mean()) < 0.05
    # |eps| is 0.5 with probability 1/12, else uniform on (0.5, 6): E|eps| = 0.5/12 + 11/12 * 3.25.
    assert abs(sample.shifts.abs().mean() - (0.5 / 12 + 11 / 12 * 3.25)) < 0.02
    assert abs((sample.shifts.abs() == 0.5).float().mean() - 1 / 12) < 0.005
    assert torch.allclose(torch.bincount(sample.directions) / 60_000, torch.full((5,), 0.2), atol=0.01)
    assert torch.allclose(torch.bincount(sample.classes) / 60_000, torch.full((4,), 0.25), atol=0.01)
    assert abs(sample.latents.std() - 1) < 0.01


def test_classes_can_be_limited():
    sample = ShiftSampler(DiscWorld(), [1, 3], 5, 6.0, 0.5, CPU).draw(500, random_stream(0))
    assert set(sample.classes.tolist()) == {1, 3}


def test_both_images_share_the_class_and_differ_by_the_shift():
    generator = tiny_biggan()
    deformator = Deformator("random", 12, 5, random_stream(1))
    sample = ShiftSampler(generator, None, 5, 6.0, 0.5, CPU).draw(6, random_stream(0))
    originals, shifted = draw_both(generator, deformator, sample)
    for row in range(6):
        c, k, eps = sample.classes[row], sample.directions[row], sample.shifts[row]
        moved = sample.latents[row] + eps * deformator.matrix[:, k]
        both = generator(torch.stack([sample.latents[row], moved]), torch.stack([c, c]))
        assert torch.allclose(originals[row], both[0], atol=1e-5)
        assert torch.allclose(shifted[row], both[1], atol=1e-5)


def test_only_the_shifted_image_has_a_graph_and_only_a_gets_a_gradient():
    generator = tiny_biggan()
    deformator = Deformator("orthonormal", 12, 12, random_stream(1))
    sample = ShiftSampler(generator, None, 12, 6.0, 0.5, CPU).draw(8, random_stream(0))
    originals, shifted = draw_both(generator, deformator, sample)
    assert not originals.requires_grad
    shifted.square().sum().backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in deformator.parameters())
