"""A run folder: one subfolder per stage with config, metrics and checkpoint. Writes are atomic, and runs can resume."""

import io
import json
import math
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import torch

from saliency_gan.compute.failures import explain
from saliency_gan.compute.processes import is_main, join, meet
from saliency_gan.config import StageConfig, to_plain
from saliency_gan.errors import StageError, UserError, reason_of
from saliency_gan.storage.files import (
    disk_error,
    remove_partials,
    write_bytes,
    write_text,
)
from saliency_gan.storage.locks import lock_folder, remove_empty
from saliency_gan.storage.torch_files import load_torch
from saliency_gan.storage.yaml_files import read_yaml, to_yaml

RESUMABLE_SETTINGS = {
    "steps", "device", "run", "checkpoint_every", "log_every", "sample_every", "workers", "compile", "accumulate",
}  # fmt: skip
"""Settings that may differ between the start of a run and its continuation."""

LEARNING_RATES = ("lr", "lr_generator", "lr_discriminator", "lr_deformator", "lr_reconstructor")
"""Names of learning rate settings, which are too high if training diverges."""

BEGINNINGS = {".lock", "config.yaml", "metrics.jsonl"}
"""Files of a stage that has not done any work yet."""

MEMORY_AFTER = 3
"""Training steps after which the peak memory is printed; the first steps allocate all the memory."""


class StageFolder:
    """The folder `run/stage` while one process, or one torchrun job, works in it. Use it as a context manager.

    Entering creates the folder, takes its lock, compares the config with the folder's earlier config, writes the
    resolved config and removes partial files of killed processes. Leaving releases the lock, and turns failures of the
    machine, such as too little memory, into errors of one sentence. If a call fails before it writes any results, no
    config is left, so a call with corrected settings can start.

    In a torchrun job the main process does this while the others wait. Only the main process writes metrics and
    checkpoints.

    Args:
        config: The stage's settings; `config.run` is the run folder.
        name: The stage's subfolder, for example "generator", "discover", "masks" or "saliency".
        changeable: More settings, besides RESUMABLE_SETTINGS, that may differ when this stage is continued.
    """

    def __init__(self, config: StageConfig, name: str, changeable: Collection[str] = ()) -> None:
        self.config = config
        self._changeable = RESUMABLE_SETTINGS.union(changeable)
        self.path = Path(config.run) / name
        self._checkpoint = self.path / "checkpoints" / "last.pt"
        self._metrics = self.path / "metrics.jsonl"
        self._worked = False

    def __enter__(self) -> Self:
        join()
        if is_main():
            self._open()
        meet()
        return self

    def _open(self) -> None:
        self._new = [folder for folder in (self.path, self.path.parent) if not folder.exists()]
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
            if isinstance(error, UserError) and self._config_before and not self._worked:
                write_text(self.path / "config.yaml", to_yaml(self._config_before))  # a refused call changes nothing
            if error is not None and BEGINNINGS.issuperset(file.name for file in self.path.iterdir()):
                for name in ("config.yaml", "metrics.jsonl"):
                    (self.path / name).unlink(missing_ok=True)
                remove_empty(self._new)
            self._lock.close()
        if explanation := explain(error, self.config):
            raise explanation from error
        if error is None:
            meet()  # after this, the stage's files exist for every process

    def _adopt_config(self) -> None:
        """Refuses to continue a stage that was started with other settings; writes config.yaml."""
        path = self.path / "config.yaml"
        now, before = to_plain(self.config), {}
        if path.exists():
            before = read_yaml(path)
            for key, value in now.items():
                if key in before and before[key] != value and key not in self._changeable:
                    raise UserError(
                        f"{self.path} was begun with {key} = {before[key]}, but {key} = {value} was asked for:"
                        f" choose another folder with --run, or delete {self.path} to begin again."
                    )
        self._config_before = before
        write_text(path, to_yaml(now))

    def resume(self, load: Callable[[dict[str, Any]], None]) -> bool:
        """Gives the last checkpoint to `load`; returns whether there is one.

        Raises:
            UserError: As `load_checkpoint`; or if `load` fails, because another version or stage wrote the file.
        """
        state = self.load_checkpoint()
        if state is None:
            return False
        try:
            load(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if explain(error, self.config):  # for example too little memory
                raise
            raise UserError(
                f"{self._checkpoint} does not fit these settings ({reason_of(error)}): delete it to begin again, or"
                " choose another folder with --run."
            ) from None
        return True

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Reads the last checkpoint; None if there is none. Metrics logged after it are dropped.

        Raises:
            UserError: If the file is not a readable checkpoint, or was trained for more steps than the settings have.
        """
        if not self._checkpoint.exists():
            self._truncate_metrics(-1)
            return None
        state = load_torch(self._checkpoint)
        if not isinstance(state.get("step"), int):
            raise UserError(f"{self._checkpoint} is not a checkpoint of this stage: delete it to begin again.")
        steps = getattr(self.config, "steps", None)
        if isinstance(steps, int) and state["step"] > steps:
            raise UserError(
                f"{self.path} was trained for {state['step']} steps already, more than the {steps} asked for: ask for"
                " as many, or choose another folder with --run."
            )
        self._truncate_metrics(state["step"])
        return state

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replaces the last checkpoint with `state`, which needs the key "step".

        Raises:
            StageError: If a number in it is not finite; the last checkpoint stays.
        """
        if not is_main():
            return
        self._worked = True
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
        self._worked = True
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
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self._events = SummaryWriter(str(self.path / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def _diverged(self, what: str, step: int) -> StageError:
        rates = [f"--{name} {getattr(self.config, name):g}" for name in LEARNING_RATES if hasattr(self.config, name)]
        return StageError(
            f"Training diverged: {what} is no finite number at step {step}. Choose less than {' or '.join(rates)} and"
            f" another --run, or delete {self.path}, which keeps the last good checkpoint."
        )

    def read_metrics(self) -> list[dict[str, float]]:
        """All logged lines, oldest first; an incomplete line of a killed process, or a damaged one, is left out."""
        if not self._metrics.exists():
            return []
        metrics = []
        for line in self._metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                found = json.loads(line)
                if isinstance(found, dict) and isinstance(found.get("step"), int):
                    metrics.append(found)
        return metrics

    def _truncate_metrics(self, step: int) -> None:
        # Always a new file: the old one may be a link, and later lines would go to the file that it points to.
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
