"""What a GPU does in every stage, in about four minutes: `python benchmarks/gpu.py [--device cpu --miniature]`.

Runs the benchmarks of the stages with sizes for a GPU, then measures `train-gan` and the saliency model on photos in
memory. Every ratio is measured against a reference in the same run; the rates of these two are absolute. --miniature
only shows that everything runs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from timing import HEADER, print_row, quiet

from saliency_gan.compute.processes import cores
from saliency_gan.config import TrainGanConfig
from saliency_gan.generators.train_gan import train_gan
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.predictor import TorchNetwork

PHOTOS = Path(__file__).parents[1] / "data" / "caltech101-sample"
SIDE = 224
FULL = {
    "discovery": ["--steps", "20", "--rounds", "3"],
    "masks": ["--pairs", "4096", "--batch", "256", "--rounds", "2", "--processes", str(max(2, cores() // 2))],
    "training": ["--pairs", "3000", "--steps", "60", "--rounds", "3"],
}
MINIATURE = {
    "discovery": ["--steps", "1", "--rounds", "1", "--generators", "biggan-caltech101-64"],
    "masks": ["--pairs", "16", "--batch", "8", "--rounds", "1", "--processes", "2"],
    "training": ["--pairs", "120", "--batch", "4", "--steps", "1", "--rounds", "1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--miniature", action="store_true", help="the smallest sizes")
    options = parser.parse_args()
    print(HEADER, flush=True)
    failed = []
    for name, sizes in (MINIATURE if options.miniature else FULL).items():
        script = Path(__file__).with_name(f"{name}.py")
        if subprocess.run([sys.executable, script, "--device", options.device, *sizes], check=False).returncode:
            failed.append(f"{script} failed.")
    for discriminator in ("residual", "projected"):
        rate = training_rate(discriminator, options.device, *((2, 4) if options.miniature else (60, 256)))
        print_row(f"`train-gan`, {discriminator} discriminator", "", "", f"{rate:.0f} images/s")
    rate = photo_rate(options.device, *((2, 1) if options.miniature else (256, 20)))
    print_row(f"the saliency model, {SIDE} px photos in memory", "", "1,000 photos/s", f"{rate:.0f} photos/s")
    if failed:
        raise SystemExit("\n".join(failed))


def training_rate(discriminator: str, device: str, steps: int, batch: int) -> float:
    """Images per second of `train-gan`, without the first half of its steps."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        for photo in PHOTOS.glob("*.jpg"):  # the name begins with the class
            link = Path(folder) / "classes" / photo.name.split("-")[0] / photo.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(photo)
        config = TrainGanConfig(
            run=Path(folder),
            images=Path(folder) / "classes",
            min_images=1,
            discriminator=discriminator,
            steps=steps,
            batch=batch,
            log_every=steps // 2,
            distance_images=0,
            device=device,
        )
        train_gan(config)
        lines = (Path(folder) / "generator" / "metrics.jsonl").read_text().splitlines()
    return next(line["images_per_second"] for line in map(json.loads, reversed(lines)) if "images_per_second" in line)


def photo_rate(device: str, batch: int, repeats: int) -> float:
    """Photos per second of the bundled model, each with its mirror image, from and to the computer's memory."""
    network = TorchNetwork(load_model(), torch.device(device), "auto")
    squares = np.random.default_rng(0).integers(0, 255, (2 * batch, SIDE, SIDE, 3), dtype=np.uint8)
    network.maps(squares)
    began = time.perf_counter()
    for _ in range(repeats):
        network.maps(squares)
    return batch * repeats / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
