"""What settings are held to: one sentence for each value that no run could use."""

from pathlib import Path
from typing import Any

from saliency_gan.errors import UserError

LARGEST_RESOLUTION = 4096
"""Pixels of a side; a larger square fills the memory."""


def require(config: Any, name: str, valid: bool, expected: str) -> None:
    """Refuses the value of a setting that is not valid.

    Raises:
        UserError: With the setting's name, its value, and what it has to be.
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
    """Refuses numbers below 0; None is one that was not said."""
    for name in names:
        require(config, name, getattr(config, name) is None or getattr(config, name) >= 0, "0 or more")


def require_share(config: Any, *names: str) -> None:
    """Refuses what is no share."""
    for name in names:
        require(config, name, 0 <= getattr(config, name) <= 1, "from 0 to 1")


def require_port(config: Any) -> None:
    """Refuses what is no port."""
    require(config, "port", 0 <= config.port < 65536, "a port: 1024 to 65535, or 0 for any free one")


def require_suffix(config: Any, name: str, path: Path, *suffixes: str) -> None:
    """Refuses a file's name that ends otherwise."""
    if path.suffix.lower() not in suffixes or path.is_dir():
        ends = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise UserError(f"--{name} is {path}, but has to be the name of a file that ends in {ends}.")
