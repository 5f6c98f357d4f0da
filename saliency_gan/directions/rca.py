"""RCA, the reconstructor classification accuracy: how well R can distinguish the directions."""

from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from saliency_gan.compute.processes import share, total
from saliency_gan.directions.deformator import Deformator
from saliency_gan.directions.reconstructor import Reconstructor
from saliency_gan.directions.shifts import ShiftSampler, draw_both
from saliency_gan.runs.random_streams import Stream, random_stream

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@torch.no_grad()
def measure_rca(
    sampler: ShiftSampler,
    deformator: Deformator,
    reconstructor: Reconstructor,
    fabric: "Fabric",
    samples: int,
    batch: int,
    seed: int,
    step: int | None = None,
) -> dict[str, float]:
    """Measures R on new pairs: its accuracy for k (Voynov & Babenko 2020, section 4) and its mean error for eps.

    Both images of a pair have the same class, as in training. A and R are in evaluation mode during the measurement.

    Args:
        sampler: Draws the pairs, as in training.
        deformator: A.
        reconstructor: R.
        fabric: Where and in which precision to compute.
        samples: Number of pairs.
        batch: Pairs per forward pass.
        seed: Random seed of the run. The pairs come from random streams that training does not use.
        step: The training step, when this is called during training; each step has its own pairs.

    Returns:
        accuracy, low and high (Wilson 95 % interval), samples, and shift_mae, the mean |eps - eps^|; empty if
        `samples` is 0.
    """
    if not samples:
        return {}
    correct = error = 0.0
    key = (seed, Stream.RCA) if step is None else (seed, Stream.RCA, step)
    was_training = reconstructor.training
    deformator.eval()
    reconstructor.eval()
    for start in tqdm(share(range(0, samples, batch)), "measuring RCA", unit="batch", leave=False):
        sample = sampler.draw(min(batch, samples - start), random_stream(*key, start))
        with fabric.autocast():
            logits, shifts = reconstructor(*draw_both(sampler.generator, deformator, sample))
        correct += float((logits.argmax(1) == sample.directions).sum())
        error += float((shifts.float() - sample.shifts).abs().sum())
    deformator.train(was_training)
    reconstructor.train(was_training)
    correct, error = total((correct, error))
    low, high = wilson_interval(round(correct), samples)
    return {
        "accuracy": correct / samples,
        "low": low,
        "high": high,
        "samples": samples,
        "shift_mae": error / samples,
    }


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927). It is also valid near 0 and 1."""
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = successes / trials, quantile**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = quantile * sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)
