"""Counts opinions: mean opinion scores, their bootstrap intervals and the agreement of the raters."""

from collections.abc import Sequence

import torch

Votes = Sequence[tuple[int, int]]
"""For every direction: the number of raters that said yes, and the number of all raters."""


def mean_opinion(votes: Votes) -> float:
    """MOS: the mean over directions of the share of raters that said yes (Voynov & Babenko 2020, section 4)."""
    return sum(yes / raters for yes, raters in votes) / len(votes)


def bootstrap_interval(
    votes: Votes, confidence: float, resamples: int, random: torch.Generator
) -> tuple[float, float] | None:
    """Percentile interval of the mean opinion over resamples of the directions (Efron 1979).

    Args:
        votes: The votes on the directions.
        confidence: Share of the resampled means that the interval covers.
        resamples: Number of resamples. Each draws as many directions as there are, with replacement.
        random: Random generator for the resamples.

    Returns:
        Lower and upper end; None for fewer than two directions, because an interval would have no meaning.
    """
    if len(votes) < 2:
        return None
    shares = torch.tensor([yes / raters for yes, raters in votes], dtype=torch.float64)
    draws = torch.randint(len(votes), (resamples, len(votes)), generator=random)
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = shares[draws].mean(1).quantile(tails).tolist()
    return low, high


def majority(votes: Votes) -> int:
    """Number of directions for which more than half of the raters said yes."""
    return sum(2 * yes > raters for yes, raters in votes)


def percent_agreement(votes: Votes) -> float | None:
    """Mean over directions of the share of pairs of raters that agree.

    Directions with one rater are left out. The result is None if no direction is left.
    """
    shares = [_agreeing_pairs(yes, raters) for yes, raters in votes if raters > 1]
    return sum(shares) / len(shares) if shares else None


def fleiss_kappa(votes: Votes) -> float | None:
    """Agreement beyond chance: (P - P_e) / (1 - P_e), 1 for full agreement and 0 for chance (Fleiss 1971).

    P is `percent_agreement`, and P_e = p^2 + (1 - p)^2, where p is the share of yes among all opinions. Directions may
    have different numbers of raters; those with one rater are left out.

    Returns:
        kappa; None if no direction has two raters, or if all opinions are the same, because chance then explains all.
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
