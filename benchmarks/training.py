"""Stage 3 against bare forward and backward passes, and how fast shards are read.

    python benchmarks/training.py [--steps 10] [--rounds 5]

The bare loop computes the gradients of one batch that lies in memory as tensors, again and again. The stage's loop
draws and augments every batch in worker processes, and moves the weights and their average, too. Pairs are drawn
first, by stage 2 with the bundled generator. What workers made ahead during the other's turn is used up before a turn
is timed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import ROUNDS, median_ratio, print_row, quiet, take_turns

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import MasksConfig, TrainSaliencyConfig
from saliency_gan.images.tensors import to_signed
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.saliency.model import SaliencyModel
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.training.learner import Learner, saliency_loss
from saliency_gan.training.pairs import Batch, worker_count
from saliency_gan.training.sources import ShardSource, read_shards

MADE_AHEAD = 4
"""Batches that a worker makes ahead."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--pairs", type=int, default=600, help="pairs drawn first")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each loop; their median ratio counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        with quiet():
            synthesise(MasksConfig(run=run, pairs=options.pairs, device=options.device))
        config = TrainSaliencyConfig(run=run, batch=options.batch, validation_pairs=100, device=options.device)
        fabric = make_fabric(config.device, config.precision)
        learner = Learner(SaliencyModel(SaliencyArchitecture()), fabric)
        batches = ShardSource(config).batches(0, 10**9)
        bare = bare_passes(learner, next(batches))
        timed: dict[str, list[float]] = {"bare": [], "stage": []}
        for _ in range(options.rounds + 1):
            timed["bare"].append(seconds_of(bare, options.steps))
            for _ in range(MADE_AHEAD * worker_count(config.workers)):
                next(batches)
            timed["stage"].append(seconds_of(lambda: learner.learn(*next(batches), config.lr), options.steps))
        medians = {name: statistics.median(measured[1:]) for name, measured in timed.items()}
        share = median_ratio(timed["bare"][1:], timed["stage"][1:])
        pairs = read_shards(run / "masks")[0]
        reading = take_turns({"read": lambda: pairs.subset(range(len(pairs)))}, options.rounds)["read"]
    rates = {name: options.steps * config.batch / seconds for name, seconds in medians.items()}
    what = f"`train-saliency`, batch {config.batch}, {fabric.device.type}"
    print_row(what, "forward + backward in memory", "90 %", f"{share:.0%} ({rates['stage']:.0f} images/s)")
    read = options.pairs / reading
    appetite = f"{read / rates['bare']:.0f} x ({read:.0f} against {rates['bare']:.0f} pairs/s)"
    print_row("reading shards", "the U-Net's bare appetite", "above 1 x", appetite)


def bare_passes(learner: Learner, batch: Batch) -> Callable[[], None]:
    images = to_signed(batch[0], learner.fabric.device).contiguous(memory_format=torch.channels_last)
    targets = torch.from_numpy(batch[1])[:, None].to(images).div(255)

    def passes() -> None:
        learner.optimiser.zero_grad()
        learner.fabric.backward(saliency_loss(learner.model(images), targets, learner.loss))

    return passes


def seconds_of(step: Callable[[], object], steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
