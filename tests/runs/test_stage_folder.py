import builtins
import errno
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from saliency_gan.compute import processes
from saliency_gan.config import TrainGanConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.runs.interrupts import delaying_interrupt, saving_on_interrupt
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.storage.files import read_json, sha256_of, write_bytes, write_json
from saliency_gan.storage.torch_files import load_torch
from tests.jobs import run_job
from tests.payload import Payload


@pytest.fixture
def config(tmp_path):
    return TrainGanConfig(run=tmp_path / "run")


HOLD_LOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


class TestStageFolder:
    def test_entering_writes_the_resolved_config(self, config):
        with StageFolder(config, "generator") as folder:
            text = (folder.path / "config.yaml").read_text()
        assert "lr_generator: 0.0002\n" in text and "channels:\n- 256\n- 256\n" in text

    def test_diverged_training_ends_with_the_last_good_checkpoint(self, config):
        with StageFolder(config, "generator") as folder:
            folder.save_checkpoint({"step": 1, "network": [{"weight": torch.ones(2)}]})
            for bad in (torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf])):
                with pytest.raises(StageError, match="a weight is no finite number at step 2"):
                    folder.save_checkpoint({"step": 2, "network": [{"weight": bad}]})
            folder.log(1, loss_generator=1.0, score=float("nan"))
            with pytest.raises(
                StageError,
                match=r"loss_generator .* at step 3. Choose less than --lr_generator 0.0002 or --lr_disc.* 0",
            ):
                folder.log(3, loss_generator=float("nan"))
            assert folder.load_checkpoint()["step"] == 1
            assert [line["step"] for line in folder.read_metrics()] == [1]

    @pytest.mark.parametrize("done", [False, True])
    def test_a_start_that_was_refused_does_not_block_the_corrected_call(self, config, done):
        with pytest.raises(UserError, match="no"), StageFolder(config, "generator") as folder:
            folder.load_checkpoint()
            if done:
                folder.save_checkpoint({"step": 1})
            raise UserError("no")
        other = replace(config, batch=7)
        if done:
            with pytest.raises(UserError, match="was begun with batch = 32"), StageFolder(other, "generator"):
                pass
        else:
            with StageFolder(other, "generator") as folder:
                assert "batch: 7\n" in (folder.path / "config.yaml").read_text()

    def test_a_second_process_is_refused_until_the_first_ends(self, config):
        folder = config.run / "generator"
        folder.mkdir(parents=True)
        command = [sys.executable, "-c", HOLD_LOCK, str(folder / ".lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            refused = pytest.raises(UserError, match=r"Another process is working in .*generator")
            with refused, StageFolder(config, "generator"):
                pass
            with StageFolder(config, "discover"):
                pass
            other.communicate("")
        with StageFolder(config, "generator"):
            pass

    def test_the_lock_is_released_after_a_failure(self, config):
        for error in (ValueError, KeyboardInterrupt):
            with pytest.raises(error), StageFolder(config, "generator"):
                raise error
        with StageFolder(config, "generator"):
            pass

    def test_other_settings_are_refused_and_the_old_ones_kept(self, config):
        with StageFolder(config, "generator") as folder:
            before = (folder.path / "config.yaml").read_text()
        message = r"begun with batch = 32, but batch = 16 was asked for: choose another folder with --run, or delete"
        with pytest.raises(UserError, match=message), StageFolder(replace(config, batch=16), "generator"):
            pass
        assert (config.run / "generator" / "config.yaml").read_text() == before
        with StageFolder(config, "generator"):  # the refused attempt holds no lock
            pass

    def test_a_refused_continuation_leaves_the_settings_as_they_were(self, config):
        with StageFolder(config, "generator") as folder:
            folder.save_checkpoint({"step": 1})
            before = (folder.path / "config.yaml").read_text()
        for worked in (False, True):
            with pytest.raises(UserError), StageFolder(replace(config, log_every=1), "generator") as folder:
                if worked:
                    folder.log(2, loss=1.0)
                raise UserError("these are other images")
            assert ((folder.path / "config.yaml").read_text() == before) != worked

    def test_what_does_not_change_the_numbers_may_change(self, config):
        with StageFolder(config, "generator"):
            pass
        with StageFolder(replace(config, steps=5, device="cpu", log_every=1), "generator") as folder:
            assert "steps: 5\n" in (folder.path / "config.yaml").read_text()

    def test_a_folder_that_cannot_be_made_is_refused(self, config):
        config.run.write_text("a file")
        with (
            pytest.raises(StageError, match=r"Could not write .*generator \(Not a directory\): .*choose another"),
            StageFolder(config, "generator"),
        ):
            pass

    def test_what_a_kill_left_half_written_is_removed(self, config):
        samples = config.run / "generator" / "samples"
        leftovers = [samples / ".step.png.1234.partial", samples / ".walk.mp4.1234.partial.mp4"]
        others = [samples / ".step.partial", samples / ".folder.1.partial" / "x"]
        for path in leftovers + others:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half")
        with StageFolder(config, "generator"):
            assert not any(path.exists() for path in leftovers) and all(path.exists() for path in others)

    def test_a_lock_that_is_a_link_is_refused_and_its_target_left_alone(self, config, tmp_path):
        (tmp_path / "theirs").write_text("theirs")
        (config.run / "generator").mkdir(parents=True)
        (config.run / "generator" / ".lock").symlink_to(tmp_path / "theirs")
        with pytest.raises(StageError, match=r"Could not write .*generator"), StageFolder(config, "generator"):
            pass
        assert (tmp_path / "theirs").read_text() == "theirs"


class TestCheckpoints:
    def test_a_checkpoint_comes_back(self, config):
        state = {"step": 3, "tensor": torch.arange(4.0), "nested": {"a": [1, 2], "b": "text"}}
        with StageFolder(config, "generator") as folder:
            assert folder.load_checkpoint() is None
            folder.save_checkpoint(state)
            loaded = folder.load_checkpoint()
        assert torch.equal(loaded.pop("tensor"), state.pop("tensor")) and loaded == state

    def test_a_failed_save_keeps_the_last_checkpoint(self, config, monkeypatch):
        with StageFolder(config, "generator") as folder:
            folder.save_checkpoint({"step": 1})
            fill_the_disk(monkeypatch)
            with pytest.raises(StageError, match=r"The disk is full, so .*last.pt was not written"):
                folder.save_checkpoint({"step": 2})
            monkeypatch.undo()
            assert folder.load_checkpoint() == {"step": 1}

    def test_fewer_steps_than_were_trained_are_refused(self, config):
        with StageFolder(config, "generator") as folder:
            folder.save_checkpoint({"step": 3})
        with StageFolder(replace(config, steps=3), "generator") as folder:
            assert folder.load_checkpoint() == {"step": 3}
        refused = pytest.raises(UserError, match="generator was trained for 3 steps already, more than the 2 asked for")
        with refused, StageFolder(replace(config, steps=2), "generator") as folder:
            folder.load_checkpoint()
        assert yaml.safe_load((folder.path / "config.yaml").read_text())["steps"] == 3

    @pytest.mark.parametrize("state", [{"weights": 1}, {"step": "3"}])
    def test_foreign_checkpoints_are_refused(self, config, state):
        with StageFolder(config, "generator") as folder:
            folder.save_checkpoint(state)
            with pytest.raises(UserError, match=r"last.pt is not a checkpoint of this stage: delete it"):
                folder.load_checkpoint()

    @pytest.mark.parametrize("error", [KeyError("source"), TypeError("a list"), RuntimeError("size mismatch")])
    def test_checkpoints_of_other_versions_are_refused(self, config, error):
        def load(_):
            raise error

        with StageFolder(config, "generator") as folder:
            assert not folder.resume(load)
            folder.save_checkpoint({"step": 1})
            with pytest.raises(
                UserError, match=r"last.pt does not fit these settings \(.*\): delete it to begin again"
            ):
                folder.resume(load)

    def test_a_checkpoint_that_needs_too_much_memory_is_not_called_damaged(self, config):
        def load(_):
            raise MemoryError

        with pytest.raises(StageError, match="The memory is too small"), StageFolder(config, "generator") as folder:
            folder.save_checkpoint({"step": 1})
            folder.resume(load)


class TestMetrics:
    def log_steps(self, config, steps, checkpoint):
        with StageFolder(config, "generator") as folder:
            for step in steps:
                folder.log(step, loss=step / 7)
            folder.save_checkpoint({"step": checkpoint})

    def test_lines_hold_the_step_and_six_digits(self, config):
        self.log_steps(config, [1, 2], 2)
        lines = (config.run / "generator" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 0.142857}, {"step": 2, "loss": 0.285714}]
        assert list((config.run / "generator" / "tensorboard").glob("events.*"))

    def test_lines_after_the_checkpoint_are_dropped(self, config):
        self.log_steps(config, range(1, 8), 5)
        with StageFolder(config, "generator") as folder:
            assert len(folder.read_metrics()) == 7
            folder.load_checkpoint()
            assert [line["step"] for line in folder.read_metrics()] == [1, 2, 3, 4, 5]
            folder.log(6, loss=0)
            assert [line["step"] for line in folder.read_metrics()] == [1, 2, 3, 4, 5, 6]

    def test_without_a_checkpoint_all_lines_are_dropped(self, config):
        self.log_steps(config, [0, 1, 2], 2)
        (config.run / "generator" / "checkpoints" / "last.pt").unlink()
        with StageFolder(config, "generator") as folder:
            assert folder.load_checkpoint() is None and folder.read_metrics() == []

    def test_a_line_that_was_cut_in_half_is_passed_over_and_removed(self, config):
        self.log_steps(config, [1, 2], 2)
        path = config.run / "generator" / "metrics.jsonl"
        path.write_text(path.read_text() + '{"step": 2, "lo')
        with StageFolder(config, "generator") as folder:
            assert [line["step"] for line in folder.read_metrics()] == [1, 2]
            folder.load_checkpoint()
        assert path.read_text() == '{"step": 1, "loss": 0.142857}\n{"step": 2, "loss": 0.285714}\n'

    @pytest.mark.parametrize("damaged", [b"\xff\xfe\n", b"5\n", b'{"loss": 1}\n'])
    def test_damaged_lines_are_passed_over(self, config, damaged):
        with StageFolder(config, "generator") as folder:
            folder.log(1, loss=0.5)
            with open(folder.path / "metrics.jsonl", "ab") as file:
                file.write(damaged)
            folder.save_checkpoint({"step": 1})
            folder.load_checkpoint()
            assert folder.read_metrics() == [{"step": 1, "loss": 0.5}]

    @pytest.mark.parametrize("there", [True, False])
    def test_lines_never_go_through_a_link(self, config, tmp_path, there):
        theirs, metrics = tmp_path / "theirs", config.run / "generator" / "metrics.jsonl"
        metrics.parent.mkdir(parents=True)
        metrics.symlink_to(theirs)
        theirs.write_text("theirs") if there else None
        with StageFolder(config, "generator") as folder:
            folder.load_checkpoint()
            folder.log(1, loss=0)
            assert [line["step"] for line in folder.read_metrics()] == [1]
        assert theirs.exists() == there and (not there or theirs.read_text() == "theirs")

    def test_event_files_hold_the_same(self, config):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        for added, steps in ((0, [1, 2, 3]), (1, [3, 4])):  # the second run repeats step 3
            with StageFolder(config, "generator") as folder:
                for step in steps:
                    folder.log(step, loss=step / 8 + added)
        board = EventAccumulator(str(config.run / "generator" / "tensorboard")).Reload()
        assert [(event.step, event.value) for event in board.Scalars("loss")] == [
            (1, 0.125), (2, 0.25), (3, 1.375), (4, 1.5),
        ]  # fmt: skip

    def test_no_file_means_no_metrics(self, config):
        assert StageFolder(config, "generator").read_metrics() == []

    def test_a_full_disk_is_reported(self, config, monkeypatch):
        with StageFolder(config, "generator") as folder:
            fill_the_disk(monkeypatch)
            with pytest.raises(StageError, match=r"The disk is full, so .*metrics.jsonl"):
                folder.log(1, loss=0.5)


class TestRandomStream:
    def test_known_values_stay(self):
        """These numbers are what makes a seed mean the same in every version: never change them lightly."""
        assert torch.randint(1 << 30, (3,), generator=random_stream(0)).tolist() == [822802128, 1056124349, 949463475]
        assert torch.randint(1 << 30, (3,), generator=random_stream(5, 1, 1000)).tolist() == [
            1046474395,
            341931014,
            214527451,
        ]

    def test_same_key_same_stream(self):
        first, second = (torch.randn(100, generator=random_stream(1, 2, 3)) for _ in range(2))
        assert torch.equal(first, second)

    def test_every_other_key_is_another_stream(self):
        keys = [(), (0,), (0, 0), (0, 0, 0), (1,), (1, 0), (0, 1), (2**32,), (0, 2**32), (2**32 + 1,), (-1,), (2**62,)]
        draws = {tuple(torch.randint(1 << 60, (2,), generator=random_stream(*key)).tolist()) for key in keys}
        assert len(draws) == len(keys)

    def test_neighbouring_streams_are_uncorrelated(self):
        draws = torch.stack([torch.randn(1000, generator=random_stream(0, 1, step)) for step in range(50)])
        correlations = torch.corrcoef(draws) - torch.eye(50)
        assert correlations.abs().max() < 5 / np.sqrt(1000)
        assert abs(draws.mean()) < 0.02 and abs(draws.std() - 1) < 0.02

    def test_the_global_generator_is_left_alone(self):
        before = torch.get_rng_state()
        torch.randn(3, generator=random_stream(0))
        assert torch.equal(torch.get_rng_state(), before)


def fill_the_disk(monkeypatch):
    def full_open(path, mode="r", *arguments, **options):
        if "r" in mode:
            return open_before(path, mode, *arguments, **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    open_before = builtins.open
    monkeypatch.setattr(builtins, "open", full_open)


class TestWriting:
    def test_a_file_is_written_whole_with_its_folder(self, tmp_path):
        write_bytes(tmp_path / "a" / "b" / "c.bin", b"content")
        assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"content"
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.bin"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    def test_a_failure_on_the_way_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch, error):
        def fail(_descriptor):
            raise error

        write_bytes(tmp_path / "x", b"old")
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(error):
            write_bytes(tmp_path / "x", b"new")
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]

    @pytest.mark.parametrize("step", ["open", "fsync", "replace"])
    @pytest.mark.parametrize(
        ("code", "message"),
        [
            (errno.ENOSPC, r"^The disk is full, so .*x was not written: free some space and run the command again\.$"),
            (errno.EDQUOT, "The disk is full"),
            (errno.EROFS, r"^Could not write .*x \(Read-only file system\): look whether .*\.$"),
        ],
    )
    def test_what_the_disk_says_becomes_a_sentence(self, tmp_path, monkeypatch, step, code, message):
        def fail(*_):
            raise OSError(code, os.strerror(code))

        write_bytes(tmp_path / "x", b"old")
        owner = {"open": builtins, "fsync": os, "replace": Path}[step]
        monkeypatch.setattr(owner, step, fail)
        with pytest.raises(StageError, match=message):
            write_bytes(tmp_path / "x", b"new")
        monkeypatch.undo()
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]

    def test_a_file_in_the_place_of_a_folder_is_reported(self, tmp_path):
        (tmp_path / "x").touch()
        with pytest.raises(StageError, match=r"Could not write .*y \("):
            write_bytes(tmp_path / "x" / "y", b"")

    def test_json_comes_back(self, tmp_path):
        value = {"a": [1, 2.5, None], "ü": "é"}
        write_json(tmp_path / "x.json", value)
        assert read_json(tmp_path / "x.json") == value
        assert (tmp_path / "x.json").read_text(encoding="utf-8").endswith('"ü": "é"\n}\n')

    def test_missing_and_damaged_json_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"x.json does not exist: run the stage that writes it to its end"):
            read_json(tmp_path / "x.json")
        for damaged in (b"", b'{"a": ', b"\xff\xfe"):
            (tmp_path / "x.json").write_bytes(damaged)
            with pytest.raises(UserError, match=r"x.json cannot be read as JSON"):
                read_json(tmp_path / "x.json")

    def test_sha256_is_that_of_the_bytes(self, tmp_path):
        (tmp_path / "x").write_bytes(b"abc")
        assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestLoadTorch:
    @pytest.mark.parametrize("new_format", [True, False])
    def test_tensors_come_back(self, tmp_path, new_format):
        torch.save({"a": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=new_format)
        assert load_torch(tmp_path / "x.pt")["a"].tolist() == [1, 1]

    @pytest.mark.parametrize("write", [torch.save, pickle.dump])
    def test_pickled_code_is_refused_and_never_run(self, tmp_path, write, recwarn):
        with open(tmp_path / "x.pt", "wb") as file:
            write({"a": Payload(tmp_path / "was-run")}, file)
        with pytest.raises(
            UserError, match=r"x.pt is damaged or holds pickled objects besides tensors, which are never"
        ):
            load_torch(tmp_path / "x.pt")
        assert not (tmp_path / "was-run").exists() and not recwarn.list

    def test_damaged_files_are_refused_in_one_line(self, tmp_path):
        buffer = io.BytesIO()
        torch.save({"a": torch.ones(1000)}, buffer)
        for damaged in (b"", b"text", buffer.getvalue()[:100], buffer.getvalue()[:-100]):
            (tmp_path / "x.pt").write_bytes(damaged)
            with pytest.raises(UserError, match=r"^[^\n]*x.pt is damaged [^\n]*: delete it or give another one\.$"):
                load_torch(tmp_path / "x.pt")

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (MemoryError(), "does not fit into the free memory"),
            (
                RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
                "does not fit into the free memory",
            ),
            (PermissionError(errno.EACCES, "Permission denied"), "cannot be read .*look at its permissions"),
            (OSError(errno.EIO, "Input/output error"), "cannot be read .*look at its permissions and its disk"),
        ],
    )
    def test_a_healthy_file_is_never_called_damaged(self, error, sentence, tmp_path, monkeypatch):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(torch, "load", fail)
        with pytest.raises(UserError, match=sentence) as caught:
            load_torch(tmp_path / "x.pt")
        assert "delete" not in str(caught.value)

    def test_other_content_is_refused(self, tmp_path):
        torch.save([torch.ones(2)], tmp_path / "x.pt")
        with pytest.raises(UserError, match="should hold a dictionary of tensors, but holds a list"):
            load_torch(tmp_path / "x.pt")
        with pytest.raises(UserError, match="There is no file"):
            load_torch(tmp_path / "gone.pt")


class TestInterrupts:
    @pytest.fixture(autouse=True)
    def interruptible(self):
        """A shell that starts a job in the background has it ignore Ctrl-C."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
    def test_saving_happens_on_ctrl_c_or_a_closed_pipe_only_and_the_error_goes_on(self, error):
        saved = []
        with saving_on_interrupt(lambda: saved.append(1)):
            pass
        with pytest.raises(ValueError), saving_on_interrupt(lambda: saved.append(2)):
            raise ValueError
        assert saved == []
        with pytest.raises(error), saving_on_interrupt(lambda: saved.append(3)):
            raise error
        assert saved == [3]

    def test_a_delayed_interrupt_comes_when_the_block_is_done(self):
        done = []
        with pytest.raises(KeyboardInterrupt), delaying_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(True)
        assert done == [True]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_failure_within_goes_first_and_the_handler_returns(self):
        with pytest.raises(ValueError), delaying_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_other_threads_may_use_it(self):
        done = []

        def work():
            with delaying_interrupt():
                done.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert done == [True]


def _interrupt_one() -> int:
    steps = 0
    with suppress(KeyboardInterrupt):
        for _ in range(5):
            with delaying_interrupt():
                steps += 1
                if processes.rank() == 1 and steps == 3:
                    signal.raise_signal(signal.SIGINT)
    return steps


def test_an_interrupt_of_one_process_ends_all_after_the_same_step():
    assert run_job(_interrupt_one) == [3, 3]


def _write_as_a_job(config) -> list[str]:
    with StageFolder(config, "generator") as folder:
        folder.log(1, loss=processes.rank())
        folder.save_checkpoint({"step": 1 + processes.rank()})
        processes.meet()
        return [folder.load_checkpoint()["step"], *[line["loss"] for line in folder.read_metrics()]]


def test_of_a_job_the_main_process_writes_and_all_read(config):
    assert run_job(_write_as_a_job, config) == [[1, 0.0], [1, 0.0]]
