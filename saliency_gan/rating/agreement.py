"""Opinions counted: mean opinion scores, their bootstrap intervals and how far raters agree."""

from collections.abc import Sequence

import torch

Votes = Sequence[tuple[int, int]]
"""For every direction: raters that said yes, and raters."""


def mean_opinion(votes: Votes) -> float:
    """MOS: the mean over directions of the share of raters that said yes (Voynov & Babenko 2020, section 4)."""
    return sum(yes / raters for yes, raters in votes) / len(votes)


def bootstrap_interval(
    votes: Votes, confidence: float, resamples: int, random: torch.Generator
) -> tuple[float, float] | None:
    """Percentile interval of the mean opinion when the directions are drawn anew (Efron 1979).

    Args:
        votes: The directions.
        confidence: Share of the resampled means that the interval covers.
        resamples: How often as many directions are drawn with replacement.
        random: Where they are drawn from.

    Returns:
        Lower and upper end; None for fewer than two directions, of which one would say nothing.
    """
    if len(votes) < 2:
        return None
    shares = torch.tensor([yes / raters for yes, raters in votes], dtype=torch.float64)
    draws = torch.randint(len(votes), (resamples, len(votes)), generator=random)
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = shares[draws].mean(1).quantile(tails).tolist()
    return low, high


def majority(votes: Votes) -> int:
    """Directions of which more than half of the raters said yes."""
    return sum(2 * yes > raters for yes, raters in votes)


def percent_agreement(votes: Votes) -> float | None:
    """Mean over directions of the share of pairs of raters that agree.

    Directions with one rater are left out; None where none is left.
    """
    shares = [_agreeing_pairs(yes, raters) for yes, raters in votes if raters > 1]
    return sum(shares) / len(shares) if shares else None


def fleiss_kappa(votes: Votes) -> float | None:
    """Agreement beyond chance: (P - P_e) / (1 - P_e), 1 for full agreement and 0 for chance (Fleiss 1971).

    P is `percent_agreement`; P_e = p^2 + (1 - p)^2 with p the share of yes among all opinions. Directions may have
    different numbers of raters; those with one are left out.

    Returns:
        kappa; None where no direction has two raters, or where everybody always said the same and chance explains all.
    """
    shared = [(yes, raters) for yes, raters in votes if raters > 1]
    observed = percent_agreement(shared)
    if observed is None:
        return None
    share = sum(yes for yes, _ in shared) / sum(raters for _, raters in shared)
    chance = share**2 + (1 - share) ** 2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def _agreeing_pairs(yes: int, raters: int) -> float:
    no = raters - yes
    return (yes * (yes - 1) + no * (no - 1)) / (raters * (raters - 1))
