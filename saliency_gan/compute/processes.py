"""The processes of a `torchrun` job: which one this is, its part of the work, and what they agree on.

Without torchrun there is one process, and nothing here does anything. Importing this is free of torch.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from saliency_gan.errors import StageError, UserError

Item = TypeVar("Item")

PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""

PATIENCE = timedelta(days=1)
"""How long processes wait for each other; one that died is noticed at once."""


def world_size() -> int:
    """Processes of the job; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if _launched() else 1


def local_world_size() -> int:
    """Processes of the job on this machine; 1 without torchrun."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _launched() else 1


def rank() -> int:
    """This process among those of the job, 0 to `world_size() - 1`."""
    return int(os.environ["RANK"]) if _launched() else 0


def local_rank() -> int:
    """This process among those of this machine, 0 to `local_world_size() - 1`."""
    return int(os.environ["LOCAL_RANK"]) if _launched() else 0


def cores() -> int:
    """Cores that this process may use, which in a container or under `taskset` are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wait_asleep() -> None:
    """Lets OpenMP's threads sleep while they wait for each other, unless the environment says otherwise.

    By default they spin, so that two jobs with as many threads each as there are cores slow each other to a fifth. This
    has to be called before torch is imported, and holds for the processes that this one starts, too.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def is_main() -> bool:
    """Whether this process is the one that writes what belongs to the whole job."""
    return rank() == 0


def share(items: Sequence[Item]) -> Sequence[Item]:
    """The items that this process takes: all without torchrun, else every `world_size()`-th from `rank()` on."""
    return items[rank() :: world_size()]


def gather(results: Sequence[Item]) -> list[Item]:
    """Undoes `share`: what every process made of its items, in the items' order; empty but in the main process."""
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
    """Waits until every process has come here.

    Raises:
        StageError: If one of them has ended.
    """
    anywhere(False)


def join() -> None:
    """Connects this process with the others, once; does nothing without torchrun.

    What the processes tell each other about lies on the CPU and goes through gloo, which notices at once when one of
    them ends; gradients on GPUs go through NCCL.
    """
    if world_size() == 1:
        return
    import atexit

    import torch.distributed

    if torch.distributed.is_initialized():
        return

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and torch.distributed.is_nccl_available() else "gloo"
    with _noticing_losses():
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(torch.distributed.destroy_process_group)


def end_with_parent() -> None:
    """Has the kernel kill this worker when the process that started it ends, however that happens; on Linux alone.

    A worker that lives on keeps its parent's connections open, so that the rest of a job waits for a process that was
    killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def quieten() -> None:
    """Keeps progress and results of all processes but the main one off the screen; errors are still shown."""
    if not is_main():
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
        sys.stdout = open(os.devnull, "w")


def speaks() -> bool:
    """Whether this process is the first one that asks: of all processes that fail, one says why."""
    if world_size() == 1:
        return True
    from torch.distributed import TCPStore

    try:  # torchrun's own store, which is there before the processes are connected and outlives each of them
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False)
        return store.add(f"saliency_gan/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (RuntimeError, ValueError, KeyError):
        return True


def lost_process() -> StageError:
    """The sentence for a job of which a process has ended."""
    return StageError(
        "Another process of this job ended, so this one stops: look for what it said, or whether it was killed for lack"
        " of memory, and run the command again, which goes on from what was saved."
    )


@contextmanager
def _noticing_losses() -> Iterator[None]:
    """Turns the failure of a collective operation into a sentence."""
    try:
        yield
    except RuntimeError:
        raise lost_process() from None


def _launched() -> bool:
    # Cluster software sets RANK and WORLD_SIZE for its own jobs, too; only torchrun sets this one.
    return "TORCHELASTIC_RUN_ID" in os.environ


def own_parts(batch: int, accumulate: int) -> list[range]:
    """What this process takes of a global batch: a range for each part that its gradient is accumulated over.

    The random numbers of a step are drawn for the whole batch and then cut, so they do not depend on the number of
    processes. The ranges of all processes are equally long, so means of means over them are means over the batch.

    Raises:
        UserError: If the batch cannot be cut like that.
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
