"""Checks of settings: a value that no run can use raises an error of one sentence."""

from pathlib import Path
from typing import Any

from saliency_gan.errors import UserError

LARGEST_RESOLUTION = 4096
"""Largest side of a square image in pixels; a larger one does not fit in memory."""


LARGEST_SHIFT = 1e6
"""Largest shift, in units of a unit-length direction; latents are rarely longer than 20."""


def require(config: Any, name: str, valid: bool, expected: str) -> None:
    """Refuses the value of a setting if it is not valid.

    Raises:
        UserError: If it is not valid; the message has the setting's name, its value and the expected value.
    """
    if not valid:
        value = getattr(config, name)
        shown = ",".join(map(str, value)) or "empty" if isinstance(value, tuple) else value
        raise UserError(f"--{name} is {shown}, but has to be {expected}.")


def require_positive(config: Any, *names: str) -> None:
    """Refuses counts and magnitudes below 1."""
    for name in names:
        require(config, name, getattr(config, name) >= 1, "1 or more")


def require_not_negative(config: Any, *names: str) -> None:
    """Refuses numbers below 0; None means that the setting was not given, and is accepted."""
    for name in names:
        require(config, name, getattr(config, name) is None or getattr(config, name) >= 0, "0 or more")


def require_share(config: Any, *names: str) -> None:
    """Refuses numbers outside of [0, 1]."""
    for name in names:
        require(config, name, 0 <= getattr(config, name) <= 1, "from 0 to 1")


def require_seed(config: Any) -> None:
    """Refuses a seed that does not fit into 64 bits."""
    require(config, "seed", -(2**63) <= config.seed < 2**63, "a whole number of 64 bits")


def require_shifts(config: Any, name: str, *values: float) -> None:
    """Refuses shifts so large that images in single precision say nothing."""
    require(config, name, all(abs(value) <= LARGEST_SHIFT for value in values), f"at most {LARGEST_SHIFT:g}")


def require_port(config: Any) -> None:
    """Refuses a number that is not a port, and the ports below 1024, which are for the system."""
    is_port = config.port == 0 or 1024 <= config.port < 65536
    require(config, "port", is_port, "a port: 1024 to 65535, or 0 for any free one")


def require_suffix(config: Any, name: str, path: Path, *suffixes: str) -> None:
    """Refuses a path that has none of the suffixes or is a folder."""
    if path.suffix.lower() not in suffixes or path.is_dir():
        ends = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise UserError(f"--{name} is {path}, but has to be the name of a file that ends in {ends}.")
