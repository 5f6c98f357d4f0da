"""What all benchmarks share: turns, medians and rows of the table."""

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from saliency_gan.compute.allocator import keep_freed_memory

HEADER = "| what | against | reach | measured |\n|---|---|---:|---:|"
ROUNDS = 5

keep_freed_memory()  # as the command does; the references get it, too


def take_turns(tasks: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of every task. They take turns, so that whatever else the machine does slows all of them.

    The first round warms up and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(measured) for name, measured in seconds.items()}


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median of the ratios of turns that were next to each other, so that a machine that is slower for a while counts
    in both."""
    return statistics.median(one / other for one, other in zip(numerators, denominators, strict=True))


def times(count: int, task: Callable[[], object]) -> Callable[[], None]:
    """The task, done `count` times."""

    def repeated() -> None:
        for _ in range(count):
            task()

    return repeated


def print_row(what: str, against: str, reach: str, measured: str) -> None:
    """Prints a row of the table, which `all.py` gathers."""
    print(f"| {what} | {against} | {reach} | {measured} |", flush=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps a stage's progress off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
