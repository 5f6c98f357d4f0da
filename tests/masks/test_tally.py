from dataclasses import replace

import numpy as np
import pytest

from saliency_gan.errors import StageError
from saliency_gan.masks.candidates import Candidate
from saliency_gan.masks.tally import Tally


def candidate(name: str, rejected_by: str | None) -> Candidate:
    return Candidate(0, name, np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), rejected_by)


def counted(*verdicts: tuple[str, str | None]) -> Tally:
    tally = Tally()
    for name, rejected_by in verdicts:
        tally.count(candidate(name, rejected_by))
    return tally


def test_counts_by_check_and_by_class():
    tally = counted(
        ("cat", None),
        ("cat", "min_area"),
        ("dog", "max_border"),
        ("cat", "min_area"),
        ("dog", "min_area"),
        ("ant", None),
    )
    assert (tally.candidates, tally.accepted, tally.acceptance) == (6, 2, 2 / 6)
    assert tally.to_plain() == {
        "rejections": {"min_area": 3, "max_border": 1},
        "rejections_by_class": {"cat": {"min_area": 2}, "dog": {"max_border": 1, "min_area": 1}},
        "accepted_by_class": {"ant": 1, "cat": 1},
        "fit": {},
        "fit_by_class": {},
    }


def test_fits_of_accepted_pairs_are_summed_up_and_go_on_from_what_was_saved():
    tally = Tally()
    for name, verdict, fit in (("cat", None, 0.25), ("cat", "max_area", 0.9), ("dog", None, 0.75), ("cat", None, 0.5)):
        tally.count(replace(candidate(name, verdict), fit=fit))
        tally = Tally.from_plain(tally.to_plain())
    assert tally.fit == {"mean": 0.5, "good_share": 1 / 3}
    assert tally.to_plain()["fit_by_class"] == {"cat": {"sum": 0.75, "good": 0}, "dog": {"sum": 0.75, "good": 1}}


def test_counting_goes_on_from_what_was_saved():
    verdicts = [("cat", None), ("dog", "max_area"), ("cat", "two_peaks"), ("dog", None), ("dog", "max_area")]
    resumed = Tally.from_plain(counted(*verdicts[:3]).to_plain())
    for verdict in verdicts[3:]:
        resumed.count(candidate(*verdict))
    assert resumed.to_plain() == counted(*verdicts).to_plain()
    assert (resumed.candidates, resumed.accepted) == (5, 2)


def test_a_hopeless_acceptance_names_the_check_and_the_way_out():
    tally = Tally()
    for number in range(4999):
        tally.count(candidate("cat", None if number < 24 else "max_area" if number % 3 else "min_area"))
    with pytest.raises(StageError, match=r"Only 24 of 5,000 .* max_area rejected 3,3\d\d .*--max_area"):
        tally.count(candidate("cat", "max_area"))


def test_a_low_but_sufficient_acceptance_goes_on():
    tally = counted(*[("cat", None)] * 26, *[("cat", "min_area")] * 5000)
    assert tally.acceptance > 0.005
