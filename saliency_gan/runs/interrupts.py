"""Handles Ctrl-C during training: it takes effect after a whole step, and after the work is saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saliency_gan.compute.processes import anywhere


@contextmanager
def saving_on_interrupt(save: Callable[[], None]) -> Iterator[None]:
    """Calls `save()` when Ctrl-C ends the block, then raises the interrupt again.

    The same happens if a program that shows the output, such as `tee`, has ended. Ctrl-C ends it at once, while this
    process still delays the interrupt.
    """
    try:
        yield
    except (KeyboardInterrupt, BrokenPipeError):
        with _holding_interrupts():  # torchrun sends every process a second one
            save()
        raise


@contextmanager
def delaying_interrupt() -> Iterator[None]:
    """Delays Ctrl-C until the block ends. Use it around a whole step, so that half a step is never saved.

    If one process of a torchrun job is interrupted, all processes are interrupted at the end of the same step.
    """
    with _holding_interrupts() as received:
        yield
    if anywhere(bool(received)):
        raise KeyboardInterrupt


@contextmanager
def _holding_interrupts() -> Iterator[list[bool]]:
    """Holds interrupts back; yields a list that gets one entry for each of them."""
    received: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # signals reach the main thread only
        return
    previous = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, previous)
