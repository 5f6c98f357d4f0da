from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliency_gan.rating.agreement import (
    bootstrap_interval,
    fleiss_kappa,
    majority,
    mean_opinion,
    percent_agreement,
)
from saliency_gan.runs.random_streams import random_stream

TWO_RATERS = [(2, 2), (1, 2), (2, 2), (0, 1)]
"""Yes-yes, yes-no, yes-yes, and a direction that one rater said no about."""


def test_scores_by_hand() -> None:
    assert mean_opinion(TWO_RATERS) == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert mean_opinion([(3, 3)]) == 1
    assert majority(TWO_RATERS) == 2, "half is no majority"
    assert majority([(2, 3), (1, 3), (0, 1), (1, 1)]) == 2


def test_agreement_by_hand() -> None:
    # Shared: pairs agree on 2 of 3 directions; 5 of 6 opinions are yes, so chance is (25 + 1) / 36.
    assert percent_agreement(TWO_RATERS) == pytest.approx(2 / 3)
    assert fleiss_kappa(TWO_RATERS) == pytest.approx((2 / 3 - 26 / 36) / (10 / 36))
    # Three raters: pairs agree on 1, 1/3, 1, 1/3 of the directions; half of the opinions are yes.
    three = [(3, 3), (2, 3), (0, 3), (1, 3)]
    assert percent_agreement(three) == pytest.approx(2 / 3)
    assert fleiss_kappa(three) == pytest.approx(1 / 3)


def test_the_ends_of_kappa() -> None:
    assert fleiss_kappa([(2, 2), (0, 2)]) == 1
    assert fleiss_kappa([(1, 2), (1, 2)]) == -1
    assert fleiss_kappa([(2, 2), (2, 2)]) is None, "everybody said yes, as chance would have it"
    assert fleiss_kappa([(1, 1), (0, 1)]) is None and percent_agreement([(1, 1)]) is None
    assert percent_agreement([(2, 2), (2, 2)]) == 1


opinions = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=12)


@given(opinions)
def test_agreement_is_that_of_the_pairs(directions: list[list[bool]]) -> None:
    votes = [(sum(given), len(given)) for given in directions]
    shared = [given for given in directions if len(given) > 1]
    agreeing = [[one == other for one, other in combinations(given, 2)] for given in shared]
    if not shared:
        assert percent_agreement(votes) is None and fleiss_kappa(votes) is None
        return
    observed = sum(sum(pairs) / len(pairs) for pairs in agreeing) / len(agreeing)
    assert percent_agreement(votes) == pytest.approx(observed)
    everything = [opinion for given in shared for opinion in given]
    chance = sum((everything.count(answer) / len(everything)) ** 2 for answer in (True, False))
    if len(set(everything)) == 1:
        assert fleiss_kappa(votes) is None
    else:
        assert fleiss_kappa(votes) == pytest.approx((observed - chance) / (1 - chance))


def test_the_bootstrap_has_the_quantiles_of_the_resampled_means() -> None:
    # Two directions with scores 0 and 1: the resampled mean is 0, .5 or 1 with probabilities 1/4, 1/2, 1/4.
    votes = [(0, 3), (3, 3)]
    assert bootstrap_interval(votes, 0.4, 4000, random_stream(1)) == (0.5, 0.5)
    assert bootstrap_interval(votes, 0.6, 4000, random_stream(1)) == (0.0, 1.0)


def test_the_bootstrap_is_as_wide_as_the_normal_interval_of_many_directions() -> None:
    votes = [(1, 1)] * 120 + [(0, 1)] * 80
    low, high = bootstrap_interval(votes, 0.95, 4000, random_stream(2))
    half = 1.96 * (0.6 * 0.4 / 200) ** 0.5
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.01)
    assert bootstrap_interval(votes, 0.95, 4000, random_stream(2)) == (low, high), "seeded"
    assert bootstrap_interval(votes, 0.95, 4000, random_stream(3)) != (low, high)


def test_one_direction_has_no_interval() -> None:
    assert bootstrap_interval([(1, 2)], 0.95, 10, random_stream(1)) is None
