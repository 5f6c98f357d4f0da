"""The processes of a `torchrun` job: their ranks, their shares of the work, and communication between them.

Without torchrun there is one process, and nothing is communicated. Importing this module does not import torch.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from saliency_gan.errors import StageError, UserError, reason_of

Item = TypeVar("Item")

PR_SET_PDEATHSIG = 1
"""Option of prctl(2)."""

PATIENCE = timedelta(days=1)
"""Longest time that processes wait for each other; the end of a process is noticed at once."""


def world_size() -> int:
    """Number of processes of the job; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if _launched() else 1


def local_world_size() -> int:
    """Number of processes of the job on this machine; 1 without torchrun."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _launched() else 1


def rank() -> int:
    """Rank of this process in the job, 0 to `world_size() - 1`."""
    return int(os.environ["RANK"]) if _launched() else 0


def local_rank() -> int:
    """Rank of this process on this machine, 0 to `local_world_size() - 1`."""
    return int(os.environ["LOCAL_RANK"]) if _launched() else 0


def cores() -> int:
    """Number of cores that this process may use; in a container or under `taskset` the machine may have more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_asleep() -> None:
    """Lets OpenMP's threads sleep while they wait for each other, unless the environment says otherwise.

    By default they spin. Two jobs that each have one thread per core then slow each other down to a fifth of the speed.
    Call this before torch is imported; it also applies to child processes.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def is_main() -> bool:
    """Whether this is the main process, which writes the files of the whole job."""
    return rank() == 0


def share(items: Sequence[Item]) -> Sequence[Item]:
    """The items that this process takes: all without torchrun, else every `world_size()`-th from `rank()` on."""
    return items[rank() :: world_size()]


def gather(results: Sequence[Item]) -> list[Item]:
    """Undoes `share`: returns the results of all processes in the order of the items; empty except in the main
    process."""
    if world_size() == 1:
        return list(results)
    import torch.distributed

    join()
    shares: list[Sequence[Item]] | None = [()] * world_size() if is_main() else None
    with _noticing_losses():
        torch.distributed.gather_object(results, shares)
    if shares is None:
        return []
    count = sum(map(len, shares))
    return [shares[index % len(shares)][index // len(shares)] for index in range(count)]


def total(values: Iterable[float]) -> list[float]:
    """Sums over the processes; the values themselves without torchrun."""
    if world_size() == 1:
        return list(values)
    import torch.distributed

    join()
    sums = torch.tensor(list(values), dtype=torch.float64)
    with _noticing_losses():
        torch.distributed.all_reduce(sums)
    return sums.tolist()


def anywhere(flag: bool) -> bool:
    """Whether `flag` is set in any process. All of them wait for each other here.

    Raises:
        StageError: If one of them has ended.
    """
    return flag if world_size() == 1 else total([float(flag)])[0] > 0


def meet() -> None:
    """Waits until every process has called this.

    Raises:
        StageError: If one of them has ended.
    """
    anywhere(False)


def join() -> None:
    """Connects this process with the others, once; does nothing without torchrun.

    Messages between processes are on the CPU and use gloo, which notices at once when a process ends. Gradients on GPUs
    use NCCL.
    """
    if world_size() == 1:
        return
    import atexit

    import torch.distributed

    if torch.distributed.is_initialized():
        return

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and torch.distributed.is_nccl_available() else "gloo"
    store, own, count = next(torch.distributed.rendezvous("env://", timeout=PATIENCE))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # On one machine, torchrun keeps its store when it restarts the processes, and the store still holds the
        # addresses of the dead ones. On several machines it begins a new store.
        store = torch.distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    with _noticing_losses():
        torch.distributed.init_process_group(backend, store=store, rank=own, world_size=count, timeout=PATIENCE)
    atexit.register(torch.distributed.destroy_process_group)


def end_with_parent() -> None:
    """Makes the kernel kill this worker when its parent process ends for any reason, or the thread of it that started
    the worker; only on Linux. If the parent has ended already, the worker ends now.

    A worker that outlives its parent keeps the parent's connections open, so the other processes of a job would wait
    for a killed process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if multiprocessing.get_start_method() == "forkserver":  # the server starts the workers
        orphaned = not parent.is_alive()
    else:  # a worker that was forked later holds what tells that the parent is alive, so the number decides
        orphaned = os.getppid() != parent.pid
    if orphaned:  # the parent ended before the kernel knew
        os._exit(1)


def quieten() -> None:
    """Hides progress bars and printed results of all processes but the main one; errors are still shown."""
    if not is_main():
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
        sys.stdout = open(os.devnull, "w")


def speaks() -> bool:
    """Whether this process is the first one that calls this, so that only one of the failed processes prints why."""
    if world_size() == 1:
        return True
    from torch.distributed import TCPStore

    try:  # torchrun's own store exists before the processes are connected and outlives each of them
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False)
        return store.add(f"saliency_gan/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (RuntimeError, ValueError, KeyError):
        return True


def lost_process(error: RuntimeError) -> StageError:
    """Returns the error for a job whose processes cannot reach each other, nearly always because one has ended."""
    return StageError(
        f"Another process of this job ended or cannot be reached ({reason_of(error)}), so this one stops: look for"
        " what the other one said, or whether it was killed for lack of memory, and run the command again, which goes"
        " on from what was saved."
    )


@contextmanager
def _noticing_losses() -> Iterator[None]:
    """Turns the failure of a collective operation into `lost_process`."""
    try:
        yield
    except RuntimeError as error:
        raise lost_process(error) from None


def _launched() -> bool:
    # Cluster software sets RANK and WORLD_SIZE for its own jobs, too; only torchrun sets this variable.
    return "TORCHELASTIC_RUN_ID" in os.environ


def own_parts(batch: int, accumulate: int) -> list[range]:
    """This process's part of a global batch: one range of indices for each step of gradient accumulation.

    The random numbers of a step are drawn for the whole batch and then split, so they do not depend on the number of
    processes. All ranges have the same length, so the mean of their means is the mean over the batch.

    Raises:
        UserError: If the batch cannot be split into equal parts.
    """
    world, own = world_size(), rank()
    if accumulate < 1 or batch % (world * accumulate):
        raise UserError(
            f"--batch {batch} cannot be cut into equal parts for {world} process{'es' * (world > 1)} with --accumulate"
            f" {accumulate}: give a multiple of {world * max(1, accumulate)}."
        )
    length = batch // (world * accumulate)
    firsts = [(part * world + own) * length for part in range(accumulate)]
    return [range(first, first + length) for first in firsts]
