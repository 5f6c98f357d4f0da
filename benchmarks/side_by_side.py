"""Two trainings beside each other, whose waiting threads sleep or spin: `python benchmarks/side_by_side.py`.

The command sets OMP_WAIT_POLICY=passive where nobody has set it, see `processes.wait_asleep`. The reference sets it to
active, which is what most builds of OpenMP do by themselves. Each job is a discover of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import median_ratio, print_row

POLICIES = ("passive", "active")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="steps of each of the two jobs")
    parser.add_argument("--rounds", type=int, default=2, help="turns that both policies take")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for _ in range(options.rounds):
        for policy in POLICIES:
            rates[policy].append(rate_of_two(policy, options.steps))
    ratio = median_ratio(rates["passive"], rates["active"])
    together = f"{ratio:.1f} x ({rates['passive'][-1]:.2f} steps/s)"
    print_row("two `discover` beside each other", "the same with threads that spin while they wait", "1 x", together)


def rate_of_two(policy: str, steps: int) -> float:
    """Steps per second of both jobs together, without their start."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for number in range(2):
            run = Path(folder) / str(number)
            settings = [f"--run={run}", f"--seed={number}", f"--steps={steps}", "--log_every=1", "--device=cpu"]
            settings += ["--rca_samples=2", "--background_samples=1", "--background_shifts=6", "--gallery_samples=0"]
            command = [sys.executable, "-m", "saliency_gan", "discover", *settings]
            environment = os.environ | {"OMP_WAIT_POLICY": policy}
            jobs.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        if any(job.wait() for job in jobs):
            raise SystemExit("A discover failed: run saliency-gan discover to see why.")
        lines = [
            json.loads(line) for n in range(2) for line in (Path(folder) / str(n) / "discover" / "metrics.jsonl").open()
        ]
    rates = [line["steps_per_second"] for line in lines if line["step"] > steps // 3]  # the first ones start up
    return 2 * len(rates) / sum(1 / rate for rate in rates)


if __name__ == "__main__":
    main()
