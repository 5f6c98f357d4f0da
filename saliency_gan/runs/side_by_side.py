"""Runs independent tasks at the same time, each in a process of its own."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from typing import TypeVar

from saliency_gan.compute.allocator import keep_freed_memory
from saliency_gan.compute.processes import cores, end_with_parent
from saliency_gan.errors import StageError

HANDLED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals of Ctrl-C, of the end of a job, and of a closed terminal; Windows has no SIGHUP."""
Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int
) -> Iterator[tuple[Task, Result | StageError]]:
    """Computes `work(task)` for every task, `jobs` of them at the same time. Each has an equal share of the cores,
    unless OMP_NUM_THREADS says otherwise. Not on Windows.

    Ctrl-C interrupts every process once, and waits until each has saved its work.

    Args:
        work: A function of a module, since it is sent to another process. It should return its errors, too. What it
            prints is not shown.
        tasks: Arguments of `work`, which can be pickled.
        jobs: Number of processes.

    Yields:
        A task and its result, in the order in which they end. If a process ended without a result, that is an error.
    """
    jobs = min(jobs, len(tasks))
    waiting, running = list(tasks), dict[Connection, tuple[BaseProcess, Task]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                ensure_running()  # of the resource tracker; its start would unblock interrupts
                with _interrupts_wait():  # until the process is in the list of those to interrupt
                    running.update([_start(work, task, jobs)])
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                process, task = running[connection]
                try:
                    result = connection.recv()
                except EOFError:  # it ended without a result
                    process.join()
                    result = StageError(_why(process.exitcode or 0))
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
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // jobs))
    with _environment(OMP_NUM_THREADS=threads, TQDM_DISABLE="1"):
        process.start()
    sender.close()
    return receiver, (process, task)


def _why(exit_code: int) -> str:
    if exit_code < 0:
        return "Its process was killed, perhaps for lack of memory: try fewer --jobs."
    return "Its process failed with the error above." if exit_code else "Its process was interrupted: try again."


def _run(work: Callable[[Task], Result], task: Task, sender: Connection) -> None:
    """Does a task in its own process. Imports have been done, and interrupts wait until they can be handled."""
    end_with_parent()
    os.setsid()  # the main process handles Ctrl-C
    for number in HANDLED:  # a shell's background jobs ignore the first one
        signal.signal(number, signal.default_int_handler)
    keep_freed_memory()
    sys.stdout = open(os.devnull, "w")  # lines of several tasks would be mixed
    with suppress(KeyboardInterrupt):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        sender.send(work(task))


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Delays the signals of HANDLED until the block ends, also in a process that is started meanwhile: it unblocks them
    itself. Here it is not enough to block them: another thread may receive them, and this one would run the handlers.
    """
    received: list[int] = []
    handlers = {number: handler for number in HANDLED if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda late, _: received.append(late))
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in received:
            signal.raise_signal(late)


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
