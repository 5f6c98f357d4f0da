"""TensorBoard's event files: the logged values once more, for who looks at curves there.

TensorBoard's own writer works in a thread, where nobody hears of a full disk. It names its files by the clock, which
may be set back between two runs, while they are read in the order of their names.
"""

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saliency_gan.storage.files import disk_error


class EventFile:
    """An event file that is new at every start of a run.

    Args:
        folder: The folder of the run's event files.
        first_step: The first step that is going to be added; what earlier files hold from there on does not count.

    Raises:
        StageError: If it cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        numbers = [_number_of(path) for path in folder.glob("events.out.tfevents.*")]
        self._path = folder / f"events.out.tfevents.{max(numbers, default=0) + 1:010d}.{socket.gethostname()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "xb", buffering=0)  # so that closing it has nothing to write
        except OSError as error:
            raise disk_error(self._path, error) from None
        self._records = RecordWriter(self._file)
        self._write(0, file_version="brain.Event:2")
        self._write(first_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of a step.

        Raises:
            StageError: If the disk is full.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        parts = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step, summary=Summary(value=parts))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        try:
            self._records.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
        except OSError as error:
            raise disk_error(self._path, error) from None


def _number_of(path: Path) -> int:
    digits = path.name.split(".")[3]
    return int(digits) if digits.isdecimal() else 0
