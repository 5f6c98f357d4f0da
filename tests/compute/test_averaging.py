import pytest
import torch
from torch import nn

from saliency_gan.compute.averaging import measure_statistics, update_average


def test_the_average_follows_its_formula() -> None:
    average, current = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    average.weight.data.fill_(2.0)
    expected = 2.0
    for step in range(1, 40):
        current.weight.data.fill_(float(step))
        update_average(average, current, 0.6, step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.weight.item() == pytest.approx(expected, rel=1e-5)


def test_batch_statistics_are_means_over_the_batches() -> None:
    random = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(3)
    norm(torch.randn(4, 3, 5, 5, generator=random) * 9)  # statistics of another time have to be forgotten
    batches = [torch.randn(4, 3, 5, 5, generator=random) * scale + scale for scale in (1, 2, 3)]
    measure_statistics(norm, [(batch,) for batch in batches])
    flat = [batch.double().transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(norm.running_mean.double(), sum(part.mean(1) for part in flat) / 3, atol=1e-5, rtol=0)
    torch.testing.assert_close(norm.running_var.double(), sum(part.var(1) for part in flat) / 3, atol=1e-4, rtol=0)
    assert norm.momentum == 0.1
    assert not norm.training
