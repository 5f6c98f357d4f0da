"""Counts accepted and rejected candidates, by check and by class, and sums up how well masks fit."""

from collections import Counter
from typing import Any, Self

from saliency_gan.errors import StageError
from saliency_gan.masks.candidates import Candidate
from saliency_gan.masks.filters import CHECKS

HOPELESS_AFTER = 5000
"""After this many candidates, the stage ends if the share of accepted ones is below `HOPELESS_SHARE`."""

HOPELESS_SHARE = 0.005
GOOD_FIT = 0.7
"""Mask fit from which a mask counts as good."""


class HopelessError(StageError):
    """Hardly any candidate is accepted."""


class Tally:
    """Counts of candidates, in total, by check and by class."""

    def __init__(self) -> None:
        self.candidates = 0
        self.accepted = 0
        self._accepted_by_class: Counter[str] = Counter()
        self._rejected: Counter[tuple[str, str]] = Counter()
        self._fits: dict[str, tuple[float, int]] = {}  # class -> sum over accepted pairs, and how many are good

    def count(self, candidate: Candidate) -> None:
        """Adds one candidate.

        Raises:
            HopelessError: If too few candidates are accepted to complete the set in a reasonable time.
        """
        self.candidates += 1
        if candidate.rejected_by is None:
            self.accepted += 1
            self._accepted_by_class[candidate.class_name] += 1
            if candidate.fit is not None:
                total, good = self._fits.get(candidate.class_name, (0.0, 0))
                self._fits[candidate.class_name] = (total + candidate.fit, good + (candidate.fit >= GOOD_FIT))
        else:
            self._rejected[candidate.class_name, candidate.rejected_by] += 1
        if self.candidates >= HOPELESS_AFTER and self.acceptance < HOPELESS_SHARE:
            check, count = max(self.rejections.items(), key=lambda item: item[1])
            raise HopelessError(
                f"Only {self.accepted} of {self.candidates:,} candidates were accepted and {check} rejected {count:,}"
                f" of them: {CHECKS[check]}, or choose another direction in discover."
            )

    @property
    def acceptance(self) -> float:
        """Share of candidates accepted, in [0, 1]."""
        return self.accepted / max(1, self.candidates)

    @property
    def rejections(self) -> dict[str, int]:
        """Check -> number of rejected candidates."""
        counts: Counter[str] = Counter()
        for (_, check), count in self._rejected.items():
            counts[check] += count
        return {check: counts[check] for check in CHECKS if counts[check]}

    @property
    def fit(self) -> dict[str, float]:
        """Mean mask fit of the accepted pairs, and the share of good ones; empty without a judge."""
        if not self._fits:
            return {}
        total, good = (sum(column) for column in zip(*self._fits.values(), strict=True))
        return {"mean": total / self.accepted, "good_share": good / self.accepted}

    def to_plain(self) -> dict[str, Any]:
        """Returns the counts in the format of manifest.json; `from_plain` reads them back."""
        by_class: dict[str, dict[str, int]] = {}
        for (name, check), count in sorted(self._rejected.items()):
            by_class.setdefault(name, {})[check] = count
        return {
            "rejections": self.rejections,
            "rejections_by_class": by_class,
            "accepted_by_class": dict(sorted(self._accepted_by_class.items())),
            "fit": self.fit,
            "fit_by_class": {name: {"sum": sum_, "good": good} for name, (sum_, good) in sorted(self._fits.items())},
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Reads what `to_plain` wrote."""
        tally = cls()
        tally._accepted_by_class.update(plain["accepted_by_class"])
        for name, checks in plain["rejections_by_class"].items():
            tally._rejected.update({(name, check): count for check, count in checks.items()})
        for name, one in plain.get("fit_by_class", {}).items():
            tally._fits[name] = (one["sum"], one["good"])
        tally.accepted = tally._accepted_by_class.total()
        tally.candidates = tally.accepted + tally._rejected.total()
        return tally
