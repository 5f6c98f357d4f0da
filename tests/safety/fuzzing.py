"""Broken and hostile inputs: how valid files are broken, how many are tried, and what may come of them."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from saliency_gan.errors import StageError, UserError

LIMITS = {signal.SIGPROF: (signal.ITIMER_PROF, 10), signal.SIGALRM: (signal.ITIMER_REAL, 120)}
"""Seconds of CPU that one input may take, and seconds of the clock, for what waits for ever."""

TIMES = int(os.environ.get("SALIENCY_GAN_FUZZ", "1"))
"""How many times the usual inputs are tried."""

_BYTES = st.one_of(
    st.binary(max_size=8), st.sampled_from([b"\0" * 8, b"\xff" * 8, b"{", b'"', b"NaN", b"../../x", b"1e999"])
)
_EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "overwrite", "insert", "remove", "repeat"]), st.floats(0, 1), _BYTES),
    min_size=1,
    max_size=4,
)


class _HangsError(BaseException):
    """Not an Exception, so that nothing takes it for a damaged file."""


def fuzzed(count: int) -> Callable[[Any], Any]:
    """Settings of a test with `count` inputs, the same ones every time."""
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=count * TIMES, derandomize=True, database=None, deadline=None, suppress_health_check=quiet
    )


def broken(content: bytes, head: int | None = None) -> st.SearchStrategy[bytes]:
    """`content` after one to four edits; those of every second one are within the first `head` bytes."""
    head = head or len(content)
    return st.tuples(_EDITS, st.booleans()).map(
        lambda drawn: _edit(content, drawn[0], head if drawn[1] else len(content))
    )


def _edit(content: bytes, edits: list[tuple[str, float, bytes]], within: int) -> bytes:
    data = bytearray(content)
    for kind, share, piece in edits:
        at = int(share * max(0, min(within, len(data)) - 1))
        if kind == "flip" and data:
            data[at] ^= 1 << (len(piece) % 8)
        elif kind == "cut":
            del data[at:]
        elif kind == "overwrite":
            data[at : at + len(piece)] = piece
        elif kind == "insert":
            data[at:at] = piece
        elif kind == "remove":
            del data[at : at + 1 + len(piece)]
        elif kind == "repeat":
            data[at:at] = data[at : at + 64]
    return bytes(data)


def survives(call: Callable[[], object], folder: Path) -> bool:
    """Whether a result came out; else one sentence did. Fails for any other exception, a hang, and a file in or beside
    `folder` that was not there before."""
    before = _listing(folder)
    previous = {number: signal.signal(number, _hangs) for number in LIMITS}
    for timer, seconds in LIMITS.values():
        signal.setitimer(timer, seconds)
    try:
        call()
    except (UserError, StageError) as error:
        sentence = str(error)
        assert len(sentence.splitlines()) == 1 and 20 < len(sentence) < 2000, sentence
        assert sentence.endswith((".", "?")), sentence
        return False
    finally:
        for number, (timer, _) in LIMITS.items():
            signal.setitimer(timer, 0)
            signal.signal(number, previous[number])
        assert _listing(folder) == before
    return True


def _hangs(number: int, _: object) -> None:
    timer, seconds = LIMITS[signal.Signals(number)]
    raise _HangsError(f"an input took more than {seconds} s of {'CPU' if timer == signal.ITIMER_PROF else 'the clock'}")


def _listing(folder: Path) -> list[Path]:
    return sorted(folder.parent.rglob("*"))
