"""How long a command takes to start: `python benchmarks/start.py`.

Each row is a whole command, from the shell to its end, in a process of its own. The reference of `predict` imports
torch alone; the other rows are absolute.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from timing import print_row, take_turns

from saliency_gan.cli.main import FUNCTIONS
from saliency_gan.storage.bundled import bundled_folder

PHOTOS = Path(__file__).parents[1] / "data" / "samples" / "images"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        photo, output = sorted(PHOTOS.iterdir())[0], Path(folder)
        onnx = output / "bundled.onnx"
        weights = f"--weights={bundled_folder('saliency')}"
        run([sys.executable, "-m", "saliency_gan", "export", weights, f"--output={onnx}"])
        predict = [sys.executable, "-m", "saliency_gan", "predict", str(photo), f"--output={output / 'maps'}"]
        commands = {
            "torch": [sys.executable, "-c", "import torch"],
            "predict": [*predict, "--device=cpu"],
            "onnx": [*predict, "--runtime=onnx", f"--weights={onnx}"],
            "help": [sys.executable, "-m", "saliency_gan", "--help"],
        }
        for verb, path in FUNCTIONS.items():
            commands[f"verb {verb}"] = [sys.executable, "-c", f"import saliency_gan.{path.rpartition('.')[0]}"]
        seconds = take_turns({name: lambda command=command: run(command) for name, command in commands.items()}, 3)
    ratio = seconds["predict"] / seconds["torch"]
    photo_row = f"{ratio:.1f} x as long ({seconds['predict']:.1f} s)"
    print_row("start: `predict` of one photo, to its file", "`import torch`", "", photo_row)
    print_row("start: the same with `--runtime onnx`", "", "1 s", f"{seconds['onnx']:.1f} s")
    print_row("start: `--help`", "", "", f"{seconds['help']:.1f} s")
    verbs = ", ".join(f"{verb} {seconds[f'verb {verb}']:.1f}" for verb in FUNCTIONS)
    print_row("start: the modules of each verb", "", "", f"{verbs} s")


def run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
