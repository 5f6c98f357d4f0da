"""Processes without the seconds of start-up: single ones, and jobs of several with gloo, as torchrun starts them."""

import multiprocessing
import os
import signal
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

PATIENCE = 240
"""Seconds after which a job hangs."""

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        "jsonargparse", "torch.utils.tensorboard",
        "torch._dynamo", "saliency_gan.cli.main", "saliency_gan.compute.devices", "saliency_gan.generators.train_gan",
        "saliency_gan.directions.discovery", "saliency_gan.masks.synthesis", "saliency_gan.training.train_saliency",
        "saliency_gan.training.adapt", "saliency_gan.training.train_student", "saliency_gan.evaluation.evaluate",
        "saliency_gan.prediction.predict", "saliency_gan.saliency.predictor",
    ]
)  # fmt: skip


class JobError(Exception):
    """What the processes of a job said when they failed: rank -> text."""

    def __init__(self, failures: dict[int, str]) -> None:
        super().__init__("\n".join(f"[{rank}] {text}" for rank, text in failures.items()))
        self.failures = failures


def launch(function: Callable[..., Any], *arguments: Any) -> multiprocessing.context.ForkServerProcess:
    """Starts `function(*arguments)` in a process of its own, which has imported everything and computed nothing."""
    process = _server.Process(target=function, args=arguments)
    process.start()
    return process


def run_job(function: Callable[..., Any], *arguments: Any, processes: int = 2) -> list[Any]:
    """Calls `function(*arguments)` in every process of a job and returns what each of them returned.

    Raises:
        JobError: If one raised or was killed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [_server.Pipe(duplex=False) for _ in range(processes)]
    workers = [
        _server.Process(target=_work, args=(rank, processes, port, pipes[rank][1], function, arguments))
        for rank in range(processes)
    ]
    for worker, (_, theirs) in zip(workers, pipes, strict=True):
        worker.start()
        theirs.close()
    results: list[Any] = [None] * processes
    failures = {}
    for rank, (ours, _) in enumerate(pipes):
        try:
            succeeded, results[rank] = ours.recv() if ours.poll(PATIENCE) else (False, "hangs")
        except EOFError:
            succeeded, results[rank] = False, "killed"
        if not succeeded:
            failures[rank] = results[rank]
    for worker in workers:
        worker.join(5)
        worker.kill()
    if failures:
        raise JobError(failures)
    return results


def kill_self() -> None:
    """Ends this process as the kernel does that runs out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _work(
    rank: int, processes: int, port: int, pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    size = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "RANK": rank, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in size.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test", TQDM_DISABLE="1")
    torch.set_num_threads(1)
    try:
        pipe.send((True, function(*arguments)))
    except BaseException as error:
        pipe.send((False, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
