"""Dissection against one unit, one concept and one threshold at a time: `python benchmarks/dissection.py`.

The counting alone is timed, on made-up features and images as large as those of a generator of 64 px: both passes, with
the bootstrap. The reference does the same for a few units with plain comparisons, as a reader of the paper would write
it, and its time is scaled up; both have the same thresholds, and their results are compared. They take turns.
"""

import argparse

import torch
import torch.nn.functional as F
from timing import ROUNDS, print_row, take_turns
from torch import Tensor

from saliency_gan.dissection.concepts import Appearance
from saliency_gan.dissection.units import AgreementCounts, JointCounts, information_quality, threshold_candidates
from saliency_gan.runs.random_streams import random_stream

SIDE, FEATURE_SIDE, BATCH = 64, 16, 32
REFERENCE_UNITS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--images", type=int, default=1000, help="images of each of the two halves")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds; the medians are compared")
    options = parser.parse_args()

    activations, concepts = made_up(options.units)
    candidates = threshold_candidates(activations)
    few = activations[:, :REFERENCE_UNITS], concepts, candidates[:REFERENCE_UNITS]
    check(*few)
    seconds = take_turns(
        {
            "dissection": lambda: dissect(activations, concepts, candidates),
            "plain": lambda: dissect_plainly(*few),
        },
        options.rounds,
    )
    minutes = seconds["dissection"] * options.images / BATCH / 60
    ratio = seconds["plain"] * options.units / REFERENCE_UNITS / seconds["dissection"]
    print_row(
        f"`dissect`, {options.units} units, {concepts.shape[1]} concepts, {options.images:,} images a half",
        "one unit, concept and threshold at a time",
        "5 min",
        f"{ratio:.1f} x ({minutes:.1f} min)",
    )


def made_up(units: int) -> tuple[Tensor, Tensor]:
    """Features [BATCH, units, h, w] as they leave a generator, and 20 concepts [BATCH, 20, H, W] of smooth images."""
    random = random_stream(0)
    activations = torch.randn(BATCH, units, FEATURE_SIDE, FEATURE_SIDE, generator=random)
    noise = torch.randn(BATCH, 5, 6, 6, generator=random)
    smooth = F.interpolate(noise, (SIDE, SIDE), mode="bicubic")
    blobs = torch.stack([smooth[:, 3] > 0.8, smooth[:, 3] <= 0.8, smooth[:, 4] > 0.8, smooth[:, 4] <= 0.8], dim=1)
    concepts = torch.cat([Appearance()(smooth[:, :3].tanh()), blobs], dim=1)
    return activations.contiguous(memory_format=torch.channels_last), concepts


def dissect(activations: Tensor, concepts: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Quality and IoU of every unit and concept, from one batch for both halves."""
    counts = JointCounts(candidates, concepts.shape[1])
    counts.add(activations, concepts)
    chosen, quality = counts.best_thresholds()
    agreement = AgreementCounts(candidates, chosen, random_stream(1))
    agreement.add(activations, concepts)
    return quality, agreement.result().iou


def dissect_plainly(activations: Tensor, concepts: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """The same by comparisons, one unit, concept and threshold at a time."""
    large = F.interpolate(activations, concepts.shape[-2:], mode="bilinear")
    quality, iou = torch.zeros(2, len(candidates), concepts.shape[1], dtype=torch.float64)
    for unit, thresholds in enumerate(candidates):
        for concept in range(concepts.shape[1]):
            seen, best = concepts[:, concept], thresholds[0]
            present = seen.sum().double()
            for threshold in thresholds:
                on = large[:, unit] > threshold
                both, above = (on & seen).sum().double(), on.sum().double()
                found = information_quality(
                    both.view(1, 1, 1), above.view(1, 1, 1), present.view(1, 1), float(seen.numel())
                )
                if both * seen.numel() > above * present and found > quality[unit, concept]:
                    quality[unit, concept], best = found, threshold
            on = large[:, unit] > best
            iou[unit, concept] = (on & seen).sum().double() / (on | seen).sum().double()
    return quality, iou


def check(activations: Tensor, concepts: Tensor, candidates: Tensor) -> None:
    """Both have to find the same."""
    for one, other in zip(
        dissect(activations, concepts, candidates), dissect_plainly(activations, concepts, candidates), strict=True
    ):
        torch.testing.assert_close(one, other)


if __name__ == "__main__":
    main()
