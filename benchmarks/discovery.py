"""Steps a second of stage 1 against a plain transcription of the published loop, and against a lower bound.

    python benchmarks/discovery.py [--device cuda] [--steps 4] [--rounds 5]

The plain loop keeps gradients for G's weights, draws G(z) with a graph, fills the shifts one sample at a time and
computes in fp32 without channels_last (but for what the generator does by itself). Its G upsamples before it convolves,
BigGAN-deep's is the package's own, and its R is torchvision's network.

The lower bound is the time of 3 bare forward passes of G and 3 of R on the same batch, in the same precision and
layout: a step needs G(z), G(z + A eps e_k) and its gradient, R and its gradient. A gradient takes as long as a forward
pass, or twice as long where weights are trained.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytorch_pretrained_biggan as package
import torch
import torch.nn.functional as F
from pytorch_pretrained_biggan.model import BigGANBatchNorm
from timing import ROUNDS, print_row, take_turns, times
from torch import nn
from torchvision.models import resnet18

from saliency_gan.compute.devices import pick_device
from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.deformator import Deformator
from saliency_gan.directions.shifts import draw_both
from saliency_gan.directions.training import DiscoveryTrainer
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs.random_streams import random_stream

SMALL, LARGE = "biggan-caltech101-64", "biggan-deep-128"
LARGE_BATCH = 2
"""On a CPU, where a batch of 32 takes a minute."""
POWER_ITERATIONS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--generators", nargs="+", default=(SMALL, LARGE), choices=(SMALL, LARGE))
    parser.add_argument("--steps", type=int, default=4, help="steps of the small generator a turn; 1 of the large one")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each loop; the medians are compared")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.generators:
            large = name == LARGE
            batch = LARGE_BATCH if large and options.device == "cpu" else 32
            weights = random_biggan_deep(Path(folder)) if large else None
            config = DiscoverConfig(generator=name, weights=weights, batch=batch, device=options.device)
            compare(config, 1 if large else options.steps, options.rounds)


def random_biggan_deep(folder: Path) -> Path:
    """Writes BigGAN-deep-128 at its true size with random weights, which are as fast as trained ones.

    Spectral norm divides by what it took for the largest singular value, at first a random guess: it has to iterate,
    or values grow from layer to layer until they are infinite. And the package allocates the weights of its
    unconditional batch norm without filling them, so they hold whatever was in memory.
    """
    torch.manual_seed(0)
    config = package.BigGANConfig()  # the 128 px model is the package's default
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    model = package.BigGAN(config).train()
    for module in model.modules():
        if isinstance(module, BigGANBatchNorm) and not module.conditional:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        for hook in module._forward_pre_hooks.values():
            for _ in range(POWER_ITERATIONS):
                hook(module, None)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def compare(config: DiscoverConfig, steps: int, rounds: int) -> None:
    device = pick_device(config.device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    torch.manual_seed(0)
    trainer = DiscoveryTrainer(config, load_generator(config.generator, config.weights))
    tasks = {
        "published": plain_loop(published_generator(config), config, device),
        "ours": trainer.train_step,
        "bound": bare_passes(trainer),
    }
    seconds = take_turns(
        {name: times(steps, lambda task=task: (task(), wait())) for name, task in tasks.items()}, rounds
    )
    if not trainer.deformator.matrix.isfinite().all():
        raise SystemExit(f"The steps on {config.generator} computed with infinities, which says nothing about speed.")
    weights = ", random weights" * bool(config.weights)
    what = f"`discover`, {config.generator}{weights}, batch {config.batch}, {device.type}"
    ratio, reach = seconds["published"] / seconds["ours"], "3 x" if device.type == "cuda" else "2.5 x"
    print_row(what, "the published loop", reach, f"{ratio:.1f} x ({steps / seconds['ours']:.2f} steps/s)")
    print_row(what, "the lower bound: 3 G + 3 R", "70 %", f"{seconds['bound'] / seconds['ours']:.0%}")


def published_generator(config: DiscoverConfig) -> nn.Module:
    """G with everything that a frozen one leaves out, in evaluation mode."""
    if config.weights:
        return PackagedBigGAN(config.weights).eval()
    return load_generator(config.generator).requires_grad_(True).to(memory_format=torch.contiguous_format)


class PackagedBigGAN(nn.Module):
    """BigGAN-deep as its package computes it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = package.BigGAN(package.BigGANConfig.from_json_file(folder / "config.json"))
        self.model.load_state_dict(torch.load(folder / "pytorch_model.bin", weights_only=True))
        self.latent_dim, self.num_classes = self.model.config.z_dim, self.model.config.num_classes

    def forward(self, latents: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Images; see `Generator.forward`."""
        return self.model(latents, F.one_hot(classes, self.num_classes).float(), 1.0)


class PublishedReconstructor(nn.Module):
    """R: torchvision's ResNet-18 on two stacked images, with two heads."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.trunk = resnet18(weights=None)
        self.trunk.conv1 = nn.Conv2d(6, 64, 7, stride=2, padding=3, bias=False)
        self.trunk.fc = nn.Identity()
        self.direction_head, self.shift_head = nn.Linear(512, count), nn.Linear(512, 1)

    def forward(self, originals: torch.Tensor, shifted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Guesses k and eps; see `Reconstructor.forward`."""
        features = self.trunk(torch.cat([originals, shifted], dim=1))
        return self.direction_head(features), self.shift_head(features).squeeze(1)


def plain_loop(generator: nn.Module, config: DiscoverConfig, device: torch.device) -> Callable[[], None]:
    """One step of the published loop, as a function."""
    generator.to(device)
    deformator = Deformator("orthonormal", generator.latent_dim, config.K, torch.Generator().manual_seed(0)).to(device)
    reconstructor = PublishedReconstructor(config.K).train().to(device)
    deformator_optimiser = torch.optim.Adam(deformator.parameters(), lr=config.lr_deformator)
    reconstructor_optimiser = torch.optim.Adam(reconstructor.parameters(), lr=config.lr_reconstructor)

    def step() -> None:
        generator.zero_grad()
        deformator.zero_grad()
        reconstructor.zero_grad()
        latents = torch.randn(config.batch, generator.latent_dim, device=device)
        classes = torch.randint(generator.num_classes, (config.batch,), device=device)
        directions = torch.randint(config.K, (config.batch,), device=device)
        shifts = 2 * config.max_shift * torch.rand(config.batch, device=device) - config.max_shift
        selected = torch.zeros(config.batch, config.K, device=device)
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


def bare_passes(trainer: DiscoveryTrainer) -> Callable[[], None]:
    """3 forward passes each of G and R without gradients, as a function."""
    sample = trainer.sampler.draw(trainer.config.batch, random_stream(0))

    @torch.no_grad()
    def passes() -> None:
        with trainer.fabric.autocast():
            images = draw_both(trainer.generator, trainer.deformator, sample)  # 2 of them
            trainer.generator(sample.latents, sample.classes)
            for _ in range(3):
                trainer.reconstructor(*images)

    return passes


if __name__ == "__main__":
    main()
