"""Otsu's threshold of brightness histograms (Otsu 1979), for many images at once."""

import torch
from torch import Tensor


def histograms(levels: Tensor, count: int) -> Tensor:
    """Counts the pixels of each level: int64 [N, H, W] in 0..count - 1 -> int64 [N, count], on the CPU.

    The result is small, and `split` needs float64, which not every device has.
    """
    pixels = levels.flatten(1)
    empty = torch.zeros(len(pixels), count, dtype=torch.int64, device=levels.device)
    return empty.scatter_add_(1, pixels, torch.ones_like(pixels)).cpu()


def split(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Splits each histogram into two groups with the largest variance between them.

    Args:
        counts: Pixels of each level, int64 [N, levels].

    Returns:
        The highest level of the lower group, int64 [N]; 0 where all pixels have one level.
        The separability, float64 [N] in [0, 1]: the variance between the groups as a share of the whole. It is 0 where
        all pixels have one level, about 0.64 for one normal peak, 0.75 for a uniform histogram and 1 for two levels.
    """
    values = torch.arange(counts.shape[1])
    below = counts.cumsum(1)
    sum_below = (counts * values).cumsum(1)
    # Integers up to here, so that thresholds at empty levels tie exactly and the first of them is chosen.
    share = below.double() / below[:, -1:]
    moment = sum_below.double() / below[:, -1:]
    mean = moment[:, -1:]
    between, level = ((mean * share - moment).square() / (share * (1 - share)).clamp(min=1e-12)).max(dim=1)
    total = (counts * (values - mean).square()).sum(1) / below[:, -1]
    return level, (between / total.clamp(min=1e-12)).clamp(0, 1)
