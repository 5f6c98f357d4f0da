"""Stage 2 against the generator's bare forward rate: `python benchmarks/masks.py [--generator NAME] [--pairs 3840]`.

Both draw two images a pair in the same precision and batches, in turns, so that whatever else the computer does meets
both. The bare loop only calls the generator; stage 2 is the whole command: drawing z and c, rule, cleaning, checks,
encoding and writing shards. Every candidate is accepted, so every one is encoded and written: the slowest case.

With --processes, a torchrun job on the same device is measured as well. Its start is not counted, because the time of a
small set is subtracted from that of one that is eight times as large.
"""

import argparse
import contextlib
import dataclasses
import io
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import median_ratio, print_row

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import MasksConfig
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_generator
from saliency_gan.masks.synthesis import synthesise
from saliency_gan.results.directions import BackgroundDirection, Directions
from saliency_gan.runs.random_streams import random_stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="biggan-caltech101-64", help="name in the zoo or path")
    parser.add_argument("--batch", type=int, default=64, help="pairs a forward pass")
    parser.add_argument("--pairs", type=int, default=3840, help="pairs a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; their median ratio counts")
    parser.add_argument("--processes", type=int, default=0, help="processes of a torchrun job that is measured, too")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        generator = load_generator(options.generator)
        random_direction(generator).save(Path(folder) / "directions")
        config = MasksConfig(
            run=Path(folder),
            directions=Path(folder) / "directions",
            generator=options.generator,
            device=options.device,
            precision=options.precision,
            batch=options.batch,
            pairs=options.pairs,
            min_area=0,
            max_area=1,
            max_border=1,
        )
        bare, whole = [], []
        for number in range(options.rounds):
            bare.append(options.pairs / time_bare(generator, config))
            whole.append(options.pairs / time_stage(config, Path(folder) / str(number)))
            print(f"round {number + 1}: bare {bare[-1]:.1f} pairs/s, stage 2 {whole[-1]:.1f} pairs/s")
        rounds = range(options.rounds if options.processes else 0)
        jobs = [job_rate(config, options.processes, Path(folder) / f"job-{number}") for number in rounds]
    ratio = median_ratio(whole, bare)
    measured = f"{ratio:.0%} ({statistics.median(whole):.0f} pairs/s)"
    print_row(f"`masks`, {options.generator}", "two bare forward passes a pair", "95 %", measured)
    if jobs:
        measured = f"{median_ratio(jobs, bare):.0%} ({statistics.median(jobs):.0f} pairs/s)"
        print_row(f"the same in {options.processes} processes", "the same, in one process", "70 % on a GPU", measured)


def random_direction(generator: Generator) -> Directions:
    matrix = torch.nn.functional.normalize(torch.randn(generator.latent_dim, 2, generator=random_stream(0)), dim=0)
    background = BackgroundDirection(0, 1, 6.0, "bright")
    return Directions(matrix, matrix[:, 0], background, {"name": generator.name, "sha256": generator.sha256})


@torch.inference_mode()
def time_bare(generator: Generator, config: MasksConfig) -> float:
    """Seconds for two forward passes a pair and nothing else."""
    fabric = make_fabric(config.device, config.precision)
    generator.to(fabric.device).to(memory_format=torch.channels_last)
    latents = generator.sample_latents(config.batch, random_stream(0)).to(fabric.device)
    classes = generator.sample_classes(config.batch, random_stream(0)).to(fabric.device)
    batches = math.ceil(config.pairs / config.batch)
    with fabric.autocast():
        generator(latents, classes)
        began = time.perf_counter()
        for _ in range(2 * batches):
            images = generator(latents, classes)
        images[0, 0, 0, 0].item()  # waits for the device
    return (time.perf_counter() - began) * config.pairs / (batches * config.batch)


def time_stage(config: MasksConfig, run: Path) -> float:
    """Seconds for the whole stage into a fresh folder."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        synthesise(dataclasses.replace(config, run=run))
    return time.perf_counter() - began


def job_rate(config: MasksConfig, processes: int, folder: Path) -> float:
    """Pairs per second of a torchrun job whose processes share the device."""
    seconds = []
    for pairs in (config.pairs, 8 * config.pairs):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += ["-m", "--", "saliency_gan", "masks", "--run", str(folder / str(pairs))]
        command += ["--directions", str(config.directions), "--pairs", str(pairs), "--shard-size", str(config.batch)]
        names = ("generator", "device", "precision", "batch", "min_area", "max_area", "max_border")
        command += [f"--{name}={getattr(config, name)}" for name in names]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={"OMP_NUM_THREADS": "1", **os.environ})
        seconds.append(time.perf_counter() - began)
    return 7 * config.pairs / (seconds[1] - seconds[0])


if __name__ == "__main__":
    main()
