"""What every stage needs to know, and how settings become plain values."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from saliency_gan.compute.types import Device


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What every stage needs to know.

    Args:
        run: Run folder; every stage reads and writes its own subfolder of it.
        seed: Seed of everything random; the same seed gives the same files on the same machine.
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
    """

    run: Path = Path("runs/demo")
    seed: int = 0
    device: Device = "auto"

    def reads(self) -> list[Path]:
        """Files and folders that the stage needs, apart from those of the package."""
        return []

    def writes(self) -> list[Path]:
        """Files and folders that the stage makes."""
        return []


def to_plain(config: Any) -> dict[str, Any]:
    """A config as YAML can hold it: paths as text, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        return value

    return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
