"""A run folder: one subfolder a stage with config, metrics and checkpoint; every write is atomic, every run resumes."""

import io
import json
import math
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import yaml

from saliency_gan.config import StageConfig, to_plain
from saliency_gan.errors import StageError, UserError
from saliency_gan.event_file import EventFile
from saliency_gan.failures import explain
from saliency_gan.files import (  # noqa: F401
    disk_error,
    read_json,
    remove_partials,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from saliency_gan.locks import lock_folder
from saliency_gan.pipeline import read_yaml
from saliency_gan.processes import anywhere, is_main, join, meet

RESUMABLE_SETTINGS = {
    "steps", "device", "run", "checkpoint_every", "log_every", "sample_every", "workers", "compile", "accumulate",
}  # fmt: skip
"""Settings that may differ between the start of a run and its continuation."""

LEARNING_RATES = ("lr", "lr_generator", "lr_discriminator", "lr_deformator", "lr_reconstructor")
"""What stages call the settings that are too high where training diverges."""

BEGINNINGS = {".lock", "config.yaml", "metrics.jsonl"}
"""Files of a stage that has done nothing yet."""

MEMORY_AFTER = 3
"""Steps of training after which the memory of one is told: the first ones allocate all that there is."""


class StageFolder:
    """The folder `run/stage` while one process, or one torchrun job, works in it. Use it as a context manager.

    Entering creates the folder, takes its lock, compares the config with the one that the folder was begun with,
    writes the resolved config and removes what a kill left half written. Leaving releases the lock, and turns failures
    of the machine, such as too little memory, into sentences. What failed before it wrote anything leaves no config, so
    that the corrected call can begin.

    Of a job's processes the main one does this, while the others wait; it alone writes metrics and checkpoints.

    Args:
        config: The stage's settings; `config.run` is the run folder.
        name: The stage's subfolder: "generator", "discover", "masks", "saliency" or "evaluation".
        changeable: Settings of this stage that may differ when it is continued, besides RESUMABLE_SETTINGS.
    """

    def __init__(self, config: StageConfig, name: str, changeable: Collection[str] = ()) -> None:
        self.config = config
        self._changeable = RESUMABLE_SETTINGS.union(changeable)
        self.path = Path(config.run) / name
        self._checkpoint = self.path / "checkpoints" / "last.pt"
        self._metrics = self.path / "metrics.jsonl"

    def __enter__(self) -> Self:
        join()
        if is_main():
            self._open()
        meet()
        return self

    def _open(self) -> None:
        self._lock = lock_folder(self.path, "--run")
        try:
            self._adopt_config()
            remove_partials(self.path)
        except BaseException:
            self._lock.close()
            raise

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if hasattr(self, "_events"):
            self._events.close()
        if hasattr(self, "_lock"):
            if error is not None and BEGINNINGS.issuperset(file.name for file in self.path.iterdir()):
                (self.path / "config.yaml").unlink(missing_ok=True)
            self._lock.close()
        if explanation := explain(error, self.config):
            raise explanation from error
        if error is None:
            meet()  # what comes after the stage finds its files, whichever process it runs in

    def _adopt_config(self) -> None:
        """Refuses to continue what was begun with other settings; writes config.yaml."""
        path = self.path / "config.yaml"
        now = to_plain(self.config)
        if path.exists():
            before = read_yaml(path)
            for key, value in now.items():
                if key in before and before[key] != value and key not in self._changeable:
                    raise UserError(
                        f"{self.path} was begun with {key} = {before[key]}, but {key} = {value} was asked for:"
                        f" choose another folder with --run, or delete {self.path} to begin again."
                    )
        write_text(path, yaml.safe_dump(now, sort_keys=False))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Reads the last checkpoint; None if there is none. Metrics logged after it are dropped.

        Raises:
            UserError: If the file is not a checkpoint that can be read.
        """
        if not self._checkpoint.exists():
            self._truncate_metrics(-1)
            return None
        state = load_torch(self._checkpoint)
        if not isinstance(state.get("step"), int):
            raise UserError(f"{self._checkpoint} is not a checkpoint of this stage: delete it to begin again.")
        self._truncate_metrics(state["step"])
        return state

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replaces the last checkpoint by `state`, which needs a "step".

        Raises:
            StageError: If a number in it is not finite; the last checkpoint stays.
        """
        if not is_main():
            return
        if not _is_finite(state):
            raise self._diverged("a weight", state["step"])
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self._checkpoint, buffer.getbuffer())

    def log(self, step: int, **values: float) -> None:
        """Appends one line to metrics.jsonl and the same values to the TensorBoard event file.

        Raises:
            StageError: If a value whose name begins with "loss" is not finite.
        """
        if not is_main():
            return
        for name, value in values.items():
            if name.startswith("loss") and not math.isfinite(value):
                raise self._diverged(name, step)
        line = json.dumps({"step": step, **{key: float(f"{value:.6g}") for key, value in values.items()}})
        try:
            with open(self._metrics, "a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise disk_error(self._metrics, error) from None
        if not hasattr(self, "_events"):
            self._events = EventFile(self.path / "tensorboard", step)
        self._events.add(step, values)

    def _diverged(self, what: str, step: int) -> StageError:
        rates = [f"--{name} {getattr(self.config, name):g}" for name in LEARNING_RATES if hasattr(self.config, name)]
        return StageError(
            f"Training diverged: {what} is no finite number at step {step}. Choose less than {' or '.join(rates)} and"
            f" another --run, or delete {self.path}, which keeps the last good checkpoint."
        )

    def read_metrics(self) -> list[dict[str, float]]:
        """All logged lines, oldest first; a line that a kill cut in half is left out."""
        metrics = []
        for line in self._metrics.read_text().splitlines() if self._metrics.exists() else []:
            with suppress(ValueError):
                metrics.append(json.loads(line))
        return metrics

    def _truncate_metrics(self, step: int) -> None:
        # Always a new file: the old one may be a link, through which the lines to come would go.
        if is_main():
            lines = [json.dumps(line) + "\n" for line in self.read_metrics() if line["step"] <= step]
            write_text(self._metrics, "".join(lines))


def _is_finite(state: Any) -> bool:
    """Whether every number in the tensors of nested dictionaries and lists is finite."""
    if isinstance(state, dict | list | tuple):
        return all(map(_is_finite, state.values() if isinstance(state, dict) else state))
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        return bool(state.isfinite().all())
    return True


def random_stream(*key: int) -> torch.Generator:
    """A CPU random generator that depends on nothing but `key`, for example (seed, STREAM_STEP, step).

    Every step and every sample draws from its own stream, so a resumed run repeats the numbers of an uninterrupted one
    without any random state in its checkpoint. Keys of different length never share a stream.
    """
    # SeedSequence fills short keys up with zeros, so (1,) and (1, 0) would coincide without the length in front.
    words = np.array([len(key), *key], dtype=np.int64).view(np.uint32)
    return torch.Generator().manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))


def load_torch(path: Path) -> dict[str, Any]:
    """Reads a torch file without executing any pickled code, onto the CPU.

    Raises:
        UserError: If it cannot be read that way.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of a pickle that is going to be refused
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is damaged or holds pickled objects besides tensors, which are never run:"
            " delete it or give another one."
        ) from None
    except Exception as error:  # what torch raises depends on where the damage is
        reason = (str(error).partition(".")[0].splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged or no tensor file ({reason}): delete it or give another one.") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} should hold a dictionary of tensors, but holds a {type(state).__name__}.")
    return state


@contextmanager
def saving_on_interrupt(save: Callable[[], None]) -> Iterator[None]:
    """Calls `save()` when Ctrl-C ends the block, then lets the interrupt go on."""
    try:
        yield
    except KeyboardInterrupt:
        with _holding_interrupts():  # torchrun sends every process another one
            save()
        raise


@contextmanager
def delaying_interrupt() -> Iterator[None]:
    """Holds Ctrl-C back until the block ends: around a whole step, so that what is saved then is never half of one.

    If one process of a torchrun job was interrupted, all of them are, at the end of the same step.
    """
    with _holding_interrupts() as received:
        yield
    if anywhere(bool(received)):
        raise KeyboardInterrupt


@contextmanager
def _holding_interrupts() -> Iterator[list[bool]]:
    """Yields a list that fills with the interrupts that came meanwhile."""
    received: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # signals reach the main thread only
        return
    previous = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, previous)
