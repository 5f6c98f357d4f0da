"""A run folder: one subfolder a stage with its config, metrics and checkpoint; every write is atomic, every run resumes."""

import errno
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import yaml

from saliency_gan.config import StageConfig, to_plain
from saliency_gan.errors import StageError, UserError

RESUMABLE_SETTINGS = {"steps", "device", "run", "checkpoint_every", "log_every", "sample_every", "workers"}
"""Settings that may differ between the start of a run and its continuation."""


class StageFolder:
    """The folder `run/stage` while one process works in it. Use it as a context manager.

    Entering creates the folder, takes its lock, compares the config with the one that the folder was begun with and
    writes the resolved config. Leaving releases the lock.

    Args:
        config: The stage's settings; `config.run` is the run folder.
        name: The stage's subfolder: "generator", "discover", "masks", "saliency" or "evaluation".
    """

    def __init__(self, config: StageConfig, name: str) -> None:
        self.config = config
        self.path = Path(config.run) / name
        self._checkpoint = self.path / "checkpoints" / "last.pt"
        self._metrics = self.path / "metrics.jsonl"

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")
        except OSError as error:
            raise UserError(f"Cannot write in {self.path} ({error.strerror}): choose another folder with --run.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(
                f"Another process is working in {self.path}: wait until it ends or choose another folder with --run."
            ) from None
        try:
            self._adopt_config()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _adopt_config(self) -> None:
        """Refuses to continue what was begun with other settings; writes config.yaml."""
        path = self.path / "config.yaml"
        now = to_plain(self.config)
        if path.exists():
            before = read_yaml(path)
            for key, value in now.items():
                if key in before and before[key] != value and key not in RESUMABLE_SETTINGS:
                    raise UserError(
                        f"{self.path} was begun with {key} = {before[key]}, but {key} = {value} was asked for:"
                        f" choose another folder with --run, or delete {self.path} to begin again."
                    )
        write_bytes(path, yaml.safe_dump(now, sort_keys=False).encode())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Reads the last checkpoint; None if there is none. Metrics logged after it are dropped.

        Raises:
            UserError: If the file is not a checkpoint that can be read.
        """
        if not self._checkpoint.exists():
            self._truncate_metrics(0)
            return None
        state = load_torch(self._checkpoint)
        if "step" not in state:
            raise UserError(f"{self._checkpoint} is not a checkpoint of this stage: delete it to begin again.")
        self._truncate_metrics(state["step"])
        return state

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replaces the last checkpoint by `state`, which needs a "step"."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self._checkpoint, buffer.getbuffer())

    def log(self, step: int, **values: float) -> None:
        """Appends one line to metrics.jsonl and the same values to the TensorBoard event file."""
        with open(self._metrics, "a") as file:
            file.write(json.dumps({"step": step, **{key: float(f"{value:.6g}") for key, value in values.items()}}) + "\n")
        if not hasattr(self, "_board"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=step)
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def read_metrics(self) -> list[dict[str, float]]:
        """All logged lines, oldest first."""
        if not self._metrics.exists():
            return []
        return [json.loads(line) for line in self._metrics.read_text().splitlines()]

    def _truncate_metrics(self, step: int) -> None:
        lines = []
        for line in self._metrics.read_text().splitlines() if self._metrics.exists() else []:
            try:
                if json.loads(line)["step"] <= step:
                    lines.append(line + "\n")
            except (ValueError, KeyError):
                break  # a line that a kill cut in half: nothing after it can be older than the checkpoint
        if self._metrics.exists():
            write_bytes(self._metrics, "".join(lines).encode())


def random_stream(*key: int) -> torch.Generator:
    """A CPU random generator that depends on nothing but `key`, for example (seed, step).

    Every step and every sample draws from its own stream, so a resumed run repeats the numbers of an uninterrupted one
    without any random state in its checkpoint.
    """
    state = np.random.SeedSequence([part & 0xFFFFFFFFFFFFFFFF for part in key]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & 0x7FFFFFFFFFFFFFFF)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file whole or not at all, creating its folder.

    Raises:
        StageError: If the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise disk_error(path, error) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def disk_error(path: Path, error: OSError) -> StageError:
    """The sentence for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageError(f"The disk is full, so {path} was not written: free some space and run the same command again.")
    return StageError(f"Could not write {path}: {error.strerror or error}.")


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON atomically."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: If the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it first.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): run the stage that writes it again.") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping; an empty file is an empty mapping.

    Raises:
        UserError: If the file is missing or not a YAML mapping.
    """
    try:
        value = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"There is no config {path}: give a YAML file, for example pipelines/demo.yaml.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        summary = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as YAML ({summary}).") from None
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{path} should hold 'name: value' lines, but holds a {type(value).__name__}.")
    return value or {}


def load_torch(path: Path) -> dict[str, Any]:
    """Reads a torch file without executing any pickled code, onto the CPU.

    Raises:
        UserError: If it cannot be read that way.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged or no plain tensor file ({reason}): delete it or give another one.") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} should hold a dictionary of tensors, but holds a {type(state).__name__}.")
    return state


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def saving_on_interrupt(save: Any) -> Iterator[None]:
    """Calls `save()` when Ctrl-C ends the block, then lets the interrupt go on."""
    try:
        yield
    except KeyboardInterrupt:
        save()
        raise
