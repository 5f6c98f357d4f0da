import os
import subprocess
import sys
import time

import pytest

from saliency_gan.compute import processes
from tests.jobs import JobError, kill_self, run_job


def test_importing_it_leaves_torch_out():
    code = "import saliency_gan.compute.processes, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.setenv("RANK", "3")  # as cluster software sets it
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (processes.rank(), processes.world_size(), processes.local_world_size()) == (0, 1, 1)
    assert processes.is_main() and processes.speaks()
    assert processes.share([1, 2, 3]) == [1, 2, 3] == processes.gather([1, 2, 3])
    assert processes.total([1.5, 2]) == [1.5, 2] and processes.anywhere(True) and not processes.anywhere(False)
    processes.meet()


def test_shares_cover_everything_once(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(list(processes.share(range(8))))
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch brings another OpenMP, which does not tell")
@pytest.mark.parametrize(
    "chosen, wanted", [(None, "PASSIVE"), pytest.param("active", "ACTIVE", marks=pytest.mark.slow)]
)
def test_threads_wait_asleep_unless_the_user_said_otherwise(chosen, wanted):
    code = "from saliency_gan.cli.main import main; main(['--version']); import torch"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": chosen} if chosen else {})
    job = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{wanted}'" in job.stderr  # OpenMP itself says it, when torch loads it


def _talk() -> tuple:
    items = [f"item {number}" for number in range(5)]
    mine = [item.upper() for item in processes.share(items)]
    first = processes.rank() == 1
    said = processes.gather(mine), processes.total([processes.rank() + 1, 0.5]), processes.anywhere(first)
    processes.meet()
    return *said, processes.speaks()


def test_processes_gather_sum_and_agree():
    results = run_job(_talk)
    assert results[0][0] == ["ITEM 0", "ITEM 1", "ITEM 2", "ITEM 3", "ITEM 4"] and results[1][0] == []
    assert [result[1] for result in results] == [[3, 1.0]] * 2
    assert [result[2] for result in results] == [True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it")
def test_a_worker_ends_with_its_parent():
    code = (
        "import os, time\n"
        "from saliency_gan.compute.processes import end_with_parent\n"
        "if not os.fork():\n"
        "    end_with_parent()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        began = time.monotonic()
        assert parent.stdout.read() == b""  # until the worker has closed it, too
        assert time.monotonic() - began < 30


def _lose_one() -> None:
    processes.meet()
    if processes.rank() == 1:
        kill_self()
    processes.meet()


def test_a_process_that_is_killed_ends_the_others_with_a_sentence():
    with pytest.raises(JobError) as caught:
        run_job(_lose_one)
    assert caught.value.failures[1] == "killed"
    assert caught.value.failures[0].startswith("StageError: Another process of this job ended or cannot be reached (")
    assert "gloo" in caught.value.failures[0]  # what torch says
