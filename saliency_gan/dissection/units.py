"""Which unit agrees with which concept (Bau et al. 2019, section 3.1).

Thresholds maximise the information quality on some images; the IoU is measured on others.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 64
"""Number of thresholds that are tried for each unit: quantiles of its activations, closer together at the top."""
MIN_QUALITY = 0.01
"""Information quality I / H that a unit needs for a concept, as in the authors' code."""
ENLARGED_VALUES = 2**25
"""Largest number of enlarged activations in memory at once; they take 8 bytes each."""
REPLICATES = 100
"""Number of bootstrap samples of the images."""


def threshold_candidates(activations: Tensor) -> Tensor:
    """The candidates for thresholds: quantiles of every unit's activations.

    Args:
        activations: r of a first batch of images, float [N, units, h, w].

    Returns:
        float [units, LEVELS], ascending: at equal distances up to the 90 % quantile, then closer and closer to the
        highest value.
    """
    sorted_values = activations.transpose(0, 1).flatten(1).sort(dim=1).values
    even = torch.linspace(0, 0.9, LEVELS - 19)
    tail = 1 - torch.logspace(-1, -3.5, 20)[1:]
    places = (torch.cat([even, tail]) * (sorted_values.shape[1] - 1)).round().long()
    return sorted_values[:, places.to(sorted_values.device)]


class JointCounts:
    """Counts pixels by unit, activation and concept. Memory does not grow with the number of images.

    Args:
        candidates: Ascending thresholds of every unit, float [units, levels].
        concepts: Number of concepts.
    """

    def __init__(self, candidates: Tensor, concepts: int) -> None:
        self.candidates = candidates.contiguous()
        units, levels = candidates.shape
        self.present = torch.zeros(units, levels + 1, concepts, dtype=torch.float64)
        self.all = torch.zeros(units, levels + 1, dtype=torch.float64)

    def add(self, activations: Tensor, concepts: Tensor) -> None:
        """Adds some images to the counts.

        Args:
            activations: r, float [N, units, h, w].
            concepts: s_c, bool [N, concepts, H, W].
        """
        every, present = joint_histogram(activations, concepts, self.candidates)
        self.all += every
        self.present += present

    def best_thresholds(self) -> tuple[Tensor, Tensor]:
        """t = argmax I(r > t; s_c) / H(r > t, s_c) for every unit and concept.

        A threshold is allowed only if the concept is more frequent above it than elsewhere. Without this rule, a unit
        that is off on all of the concept would have an equally high information.

        Returns:
            Index into the candidates, int64 [units, concepts], and the quotient there, float64 [units, concepts] in
            [0, 1]. Both are 0 if no threshold is allowed.
        """
        both, above, present = _above(self.present), _above(self.all)[..., None], self.present.sum(1)
        quality = information_quality(both, above, present, self.total)
        quality = torch.where(both * self.total > above * present[:, None], quality, 0.0)
        best = quality.max(dim=1)
        return best.indices, best.values

    def complement(self) -> "JointCounts":
        """The counts of the same pixels for the complement of each concept."""
        other = JointCounts(self.candidates, self.present.shape[2])
        other.all, other.present = self.all, self.all[..., None] - self.present
        return other

    @property
    def total(self) -> float:
        """Number of counted pixels."""
        return float(self.all[0].sum())


def information_quality(both: Tensor, above: Tensor, present: Tensor, total: float) -> Tensor:
    """I(a; s) / H(a, s) of two events, from numbers of pixels.

    Args:
        both: Pixels with r > t and s, float64 [units, levels, concepts].
        above: Pixels with r > t, [units, levels, 1].
        present: Pixels with s, [units, concepts].
        total: All pixels.

    Returns:
        float64 [units, levels, concepts] in [0, 1]; 0 where neither event varies.
    """
    present = present[:, None]
    cells = torch.stack([both, above - both, present - both, total - above - present + both]).clamp(min=0) / total
    joint = -torch.special.xlogy(cells, cells).sum(0)
    single = sum(
        -torch.special.xlogy(share, share) - torch.special.xlogy(1 - share, 1 - share)
        for share in (above / total, present / total)
    )
    return torch.where(joint > 1e-12, (single - joint) / joint.clamp(min=1e-12), 0.0).clamp(0, 1)


@dataclass(frozen=True)
class Agreement:
    """IoU of every unit with every concept, float64 [units, concepts] each.

    Attributes:
        iou: Pixels in both divided by pixels in either, over all images together.
        low: Lower end of its 95 % interval over the images.
        high: Upper end of this interval.
    """

    iou: Tensor
    low: Tensor
    high: Tensor


class AgreementCounts:
    """Intersections and unions over all images, and over bootstrap samples of them (Poisson bootstrap).

    Args:
        candidates: As for `JointCounts`.
        chosen: Index of the threshold of every unit and concept, int64 [units, concepts].
        random: Random generator for the images' weights in the bootstrap samples.
    """

    def __init__(self, candidates: Tensor, chosen: Tensor, random: torch.Generator) -> None:
        self.candidates, self.chosen, self.random = candidates.contiguous(), chosen, random
        self.intersections = torch.zeros(1 + REPLICATES, *chosen.shape, dtype=torch.float64)
        self.unions = torch.zeros_like(self.intersections)

    def add(self, activations: Tensor, concepts: Tensor) -> None:
        """Adds some images to the counts; arguments as for `JointCounts.add`."""
        both, either = [], []
        for activation, concept in zip(activations.split(1), concepts.split(1), strict=True):
            every, present = joint_histogram(activation, concept, self.candidates)
            above = _above(every)[..., None].expand(-1, -1, present.shape[2])
            chosen = self.chosen[:, None]
            shared = _above(present).gather(1, chosen)[:, 0]
            both.append(shared)
            either.append(above.gather(1, chosen)[:, 0] + present.sum(1) - shared)
        weights = torch.poisson(torch.ones(REPLICATES, len(both)), generator=self.random)
        weights = torch.cat([torch.ones(1, len(both)), weights]).double()
        self.intersections += torch.einsum("rn,nuc->ruc", weights, torch.stack(both))
        self.unions += torch.einsum("rn,nuc->ruc", weights, torch.stack(either))

    def result(self) -> Agreement:
        """The IoU of the images so far; 0 if neither the unit nor the concept appears."""
        ratios = self.intersections / self.unions.clamp(min=1)
        low, high = ratios[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        return Agreement(ratios[0], low, high)


def joint_histogram(activations: Tensor, concepts: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Counts pixels by how many thresholds the activation exceeds, for all pixels and for those of every concept.

    Pixels with the same set of concepts are counted together. There are few such sets, so one count per unit is enough
    for all concepts.

    Args:
        activations: r, float [N, units, h, w]; enlarged bilinearly to the concepts' size.
        concepts: s_c, bool [N, concepts, H, W].
        candidates: Ascending thresholds, float [units, levels].

    Returns:
        float64 [units, levels + 1] and [units, levels + 1, concepts]; entry l is the number of pixels whose activation
        exceeds exactly l thresholds.
    """
    levels = candidates.shape[1]
    pixel_set, members = _concept_sets(concepts.transpose(0, 1).flatten(1))
    every, present = [], []
    at_once = max(1, ENLARGED_VALUES // len(pixel_set))
    for some, thresholds in zip(activations.split(at_once, 1), candidates.split(at_once), strict=True):
        small = some.float().contiguous(memory_format=torch.channels_last)  # three times as fast to enlarge
        large = F.interpolate(small, concepts.shape[-2:], mode="bilinear").transpose(0, 1).flatten(1)
        exceeded = torch.searchsorted(thresholds, large.contiguous(), out_int32=True)
        for row in exceeded.mul_(len(members)).add_(pixel_set):
            counts = torch.bincount(row, minlength=(levels + 1) * len(members)).view(levels + 1, len(members))
            every.append(counts.cpu().double().sum(1))
            present.append(counts.cpu().double() @ members)
    return torch.stack(every), torch.stack(present)


def _concept_sets(concepts: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers the sets of concepts that pixels have.

    Args:
        concepts: bool [concepts, pixels].

    Returns:
        Number of the set of every pixel, int32 [pixels], and 1 for the concepts in every set, float64
        [sets, concepts].
    """
    # The key of a set is a sum of random 64 bit numbers, one per concept. Two of 1,000 sets have the same key in 1 of
    # 10^13 cases.
    random = torch.Generator().manual_seed(0)
    keys = torch.randint(-(2**63), 2**63 - 1, (len(concepts), 1), generator=random).to(concepts.device)
    name = sum((key * present for key, present in zip(keys, concepts, strict=True)), torch.zeros_like(keys[0]))
    names, pixel_set = name.unique(return_inverse=True)
    example = torch.empty_like(names).scatter_(0, pixel_set, torch.arange(len(name), device=name.device))
    return pixel_set.int(), concepts[:, example].T.cpu().double()


def _above(counts: Tensor) -> Tensor:
    """Pixels by number of exceeded thresholds [units, levels + 1, ...] -> above each threshold [units, levels, ...]."""
    return counts.flip(1).cumsum(1).flip(1)[:, 1:]
