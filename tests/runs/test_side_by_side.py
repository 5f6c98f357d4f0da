import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from saliency_gan.compute.processes import cores
from saliency_gan.errors import StageError
from saliency_gan.runs import side_by_side as module
from saliency_gan.runs.side_by_side import side_by_side


def squared(number: int) -> tuple[int, int, str]:
    print("not shown")
    return number**2, os.getpid(), os.environ["OMP_NUM_THREADS"]


def met(folder: Path) -> bool:
    """Ends only if another process runs this at the same time."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return True


def killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def failing(_: int) -> object:
    return threading.Lock()  # cannot be sent back


def interrupted(_: int) -> None:
    signal.raise_signal(signal.SIGTERM)


def saved_on_interrupt(folder: Path) -> None:
    (folder / f"{os.getpid()}.begun").touch()
    try:
        time.sleep(120)
    except KeyboardInterrupt:
        (folder / f"{os.getpid()}.saved").touch()
        raise


def test_every_task_has_a_process_and_its_share_of_the_cores(capfd, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    results = dict(side_by_side(squared, [3, 4, 5], 2))
    assert {task: result[0] for task, result in results.items()} == {3: 9, 4: 16, 5: 25}
    assert len({result[1] for result in results.values()} - {os.getpid()}) == 3
    assert {result[2] for result in results.values()} == {str(max(1, cores() // 2))}
    assert "OMP_NUM_THREADS" not in os.environ and "not shown" not in capfd.readouterr().out


def test_tasks_run_at_the_same_time(tmp_path):
    assert [result for _, result in side_by_side(met, [tmp_path, tmp_path], 2)] == [True, True]


def test_a_killed_process_is_an_error_and_the_others_go_on():
    results = dict(side_by_side(killed, [0, 1, 2], 1))
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], StageError) and "killed" in str(results[1])


@pytest.mark.parametrize(("work", "why"), [(failing, "the error above"), (interrupted, "interrupted")])
def test_a_process_that_ends_without_a_result_is_an_error(work, why):
    ((task, result),) = side_by_side(work, [7], 2)
    assert task == 7 and isinstance(result, StageError) and why in str(result)


def test_threads_that_the_user_chose_are_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert dict(side_by_side(squared, [3], 1))[3][2] == "7"


def test_one_task_has_all_cores_however_many_jobs_are_allowed(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert dict(side_by_side(squared, [3], 2))[3][2] == str(cores())


def test_an_interrupt_while_a_process_starts_is_not_lost(capfd):
    """Imports take longer than the start of this test's thread."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(side_by_side(time.sleep, [60], 2))
        assert time.monotonic() - began < 40
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signal.signal(signal.SIGINT, before)
    assert "Traceback" not in capfd.readouterr().err


def test_an_interrupt_just_after_a_process_started_is_not_lost(monkeypatch):
    """The system gives the signal to the other thread, which does not block it."""
    start, ended = module._start, threading.Event()

    def interrupted_start(*arguments):
        started = start(*arguments)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # the other thread receives it
        return started

    monkeypatch.setattr(module, "_start", interrupted_start)
    before, others = signal.signal(signal.SIGINT, signal.default_int_handler), set(multiprocessing.active_children())
    threading.Thread(target=ended.wait).start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(side_by_side(time.sleep, [60], 1))
        assert set(multiprocessing.active_children()) <= others
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        ended.set()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("name", ["SIGINT", "SIGUSR1"])
def test_an_interrupt_reaches_every_process_once_and_waits_until_it_saved(tmp_path, name):
    """With SIGUSR1, this process ignores SIGINT, as those that a shell starts in the background do."""
    sent = signal.Signals[name]

    def interrupt() -> None:
        while len(list(tmp_path.glob("*.begun"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), sent)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(sent, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            list(side_by_side(saved_on_interrupt, [tmp_path, tmp_path, tmp_path], 2))
    finally:
        signal.signal(sent, signal.SIG_DFL)
        signal.signal(signal.SIGINT, before)
    begun = {path.stem for path in tmp_path.glob("*.begun")}
    assert len(begun) == 2 and begun == {path.stem for path in tmp_path.glob("*.saved")}
