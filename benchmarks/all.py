"""Runs every benchmark, one after the other, and prints their rows as one table: `make bench`.

python benchmarks/all.py [--only discovery masks]
"""

import argparse
import subprocess
import sys
from pathlib import Path

from timing import HEADER

NAMES = ("start", "discovery", "masks", "training", "prediction", "runtimes", "dissection", "side_by_side", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="benchmarks to run")
    options = parser.parse_args()
    rows, failed = [], []
    for name in options.only:
        print(f"--- {name}", flush=True)
        script = Path(__file__).with_name(f"{name}.py")
        with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                rows += [line.rstrip()] * line.startswith("| ")
        if process.returncode:
            failed.append(f"{script} failed with exit code {process.returncode}.")
    print("", HEADER, *rows, sep="\n")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
