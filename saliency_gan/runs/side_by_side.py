"""Runs independent tasks at the same time, each in a process of its own."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from saliency_gan.compute.processes import cores, end_with_parent
from saliency_gan.errors import StageError

Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int
) -> Iterator[tuple[Task, Result | StageError]]:
    """Computes `work(task)` for every task, `jobs` of them at the same time. Each has an equal share of the cores.

    Ctrl-C interrupts every process once, and waits until each has saved its work.

    Args:
        work: A function of a module, since it is sent to another process. It should return its errors, too. What it
            prints is not shown.
        tasks: Arguments of `work`, which can be pickled.
        jobs: Number of processes.

    Yields:
        A task and its result, in the order in which they end. If a process was killed, the result is an error.
    """
    waiting, running = list(tasks), dict[Connection, tuple[BaseProcess, Task]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                running.update([_start(work, task, jobs)])
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                process, task = running[connection]
                try:
                    result = connection.recv()
                except EOFError:
                    result = StageError("Its process was killed, perhaps for lack of memory: try fewer --jobs.")
                process.join()
                del running[connection]
                yield task, result
    finally:
        for process, _ in running.values():
            if process.pid:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
        for process, _ in running.values():
            process.join()


def _start(work: Callable[[Task], Result], task: Task, jobs: int) -> tuple[Connection, tuple[BaseProcess, Task]]:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, task, sender))
    with _environment(OMP_NUM_THREADS=str(max(1, cores() // jobs)), TQDM_DISABLE="1"):
        process.start()
    sender.close()
    return receiver, (process, task)


def _run(work: Callable[[Task], Result], task: Task, sender: Connection) -> None:
    end_with_parent()
    os.setsid()  # the main process handles Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    sys.stdout = open(os.devnull, "w")  # lines of several tasks would be mixed
    with suppress(KeyboardInterrupt):
        sender.send(work(task))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Sets variables that only a process that starts meanwhile shall see."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
