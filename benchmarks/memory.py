"""The most memory that each stage takes with its default settings: `python benchmarks/memory.py [--device cpu]`.

Every stage is a command of its own, with a few steps. Worker processes are not counted. The figures are absolute:
there is no reference.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import print_row

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
STAGES = {
    "discover": ["--steps=4", "--rca_samples=32", "--background_samples=8", "--gallery_samples=0"],
    "masks": ["--pairs=300"],
    "train-saliency": ["--steps=4", "--validation_pairs=64"],
    "predict": [f"{SAMPLES}/images"],
    "evaluate": [f"--images={SAMPLES}/images", f"--masks={SAMPLES}/masks"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for stage, settings in STAGES.items():
            where = [f"--run={folder}", f"--device={options.device}"]
            where += [f"--output={folder}/predictions"] * (stage == "predict")
            print_row(f"`{stage}`", "", "stated", f"{peak([stage, *settings, *where], Path(folder)) / 1e9:.2f} GB")


def peak(words: list[str], folder: Path) -> int:
    """Bytes that a command has resident at the most."""
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-m", "saliency_gan", *words], stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"saliency-gan {' '.join(words)} failed:\n{(folder / 'log').read_text()[-500:]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
