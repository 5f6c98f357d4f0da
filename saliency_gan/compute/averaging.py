"""Exponential moving averages (EMA) of a network's weights, and batch-norm statistics for the averaged network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float, step: int) -> None:
    """Moves averaged weights towards the current ones.

    Args:
        average: Holds the average; its buffers are not changed, see `measure_statistics`.
        current: The network in training, with the same parameters in the same order.
        decay: EMA decay per step. The first steps use a lower decay, so that the initial weights are soon forgotten.
        step: Steps that `current` has done, 1 or more.
    """
    kept = min(decay, (1 + step) / (10 + step))
    get_ema_multi_avg_fn(kept)(list(average.parameters()), list(current.parameters()), step)


@torch.no_grad()
def measure_statistics(average: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Sets batch-norm statistics to their mean over batches, and leaves the network in evaluation mode.

    The averaged network was not run in training, so it has no statistics of its own.

    Args:
        average: The averaged network.
        batches: Its arguments, one tuple per batch.
    """
    norms = [module for module in average.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    average.train()
    for batch in batches:
        average(*batch)
    average.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
