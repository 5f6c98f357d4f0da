"""Ctrl-C during training: after a whole step, and after what was done is saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saliency_gan.compute.processes import anywhere


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
