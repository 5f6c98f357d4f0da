"""Steps a second of stage 1 against a plain transcription of the published loop, on the same CPU and generator.

    python benchmarks/discovery.py --generator biggan-caltech101-64 --steps 20 --batch 32

The plain loop keeps gradients for G's weights, draws G(z) with a graph, fills the shifts one sample at a time and
computes in fp32 without channels_last (but for what the generator does by itself). Both loops take turns, so that
whatever else the machine does slows both.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.deformator import Deformator
from saliency_gan.directions.reconstructor import Reconstructor
from saliency_gan.directions.training import DiscoveryTrainer
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_generator

ROUNDS = 4


def plain_loop(generator: Generator, config: DiscoverConfig) -> Callable[[], None]:
    """One step of the published loop, as a function."""
    generator.eval().requires_grad_(True).to(memory_format=torch.contiguous_format)
    deformator = Deformator("orthonormal", generator.latent_dim, config.K, torch.Generator().manual_seed(0))
    reconstructor = Reconstructor("resnet18", config.K, generator.channels).train()
    deformator_optimiser = torch.optim.Adam(deformator.parameters(), lr=config.lr_deformator)
    reconstructor_optimiser = torch.optim.Adam(reconstructor.parameters(), lr=config.lr_reconstructor)

    def step() -> None:
        generator.zero_grad()
        deformator.zero_grad()
        reconstructor.zero_grad()
        latents = torch.randn(config.batch, generator.latent_dim)
        classes = torch.randint(generator.num_classes, (config.batch,))
        directions = torch.randint(config.K, (config.batch,))
        shifts = 2 * config.max_shift * torch.rand(config.batch) - config.max_shift
        selected = torch.zeros(config.batch, config.K)
        for index in range(config.batch):
            if abs(shifts[index]) < config.min_shift:
                shifts[index] = config.min_shift if shifts[index] > 0 else -config.min_shift
            selected[index][directions[index]] += shifts[index]
        originals = generator(latents, classes)
        shifted = generator(latents + selected @ deformator.matrix.T, classes)
        logits, predicted = reconstructor(originals, shifted)
        loss = F.cross_entropy(logits, directions) + config.regression_weight * (predicted - shifts).abs().mean()
        loss.backward()
        deformator_optimiser.step()
        reconstructor_optimiser.step()

    return step


def measure(step: Callable[[], None], steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="biggan-caltech101-64", help="name in the zoo or path")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each loop")
    parser.add_argument("--batch", type=int, default=32, help="pairs of images a step")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    config = DiscoverConfig(generator=arguments.generator, batch=arguments.batch, device="cpu")
    steps = {
        "published loop": plain_loop(load_generator(config.generator), config),
        "saliency-gan": DiscoveryTrainer(config, load_generator(config.generator)).train_step,
    }
    each = max(1, arguments.steps // ROUNDS)
    seconds = dict.fromkeys(steps, 0.0)
    for step in steps.values():
        measure(step, 2)  # warm-up
    for _ in range(ROUNDS):
        for name, step in steps.items():
            seconds[name] += measure(step, each)
    rates = {name: ROUNDS * each / total for name, total in seconds.items()}
    print(f"{config.generator}, K = {config.K}, batch {config.batch}, {torch.get_num_threads()} threads")
    for name, rate in rates.items():
        print(f"{name:>15s}: {rate:6.2f} steps/s")
    print(f"{'ratio':>15s}: {rates['saliency-gan'] / rates['published loop']:6.2f}")


if __name__ == "__main__":
    main()
