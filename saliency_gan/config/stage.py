"""What the settings of every verb have in common, and how they become plain values."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from saliency_gan.compute.types import Device
from saliency_gan.storage.run_layout import Input, RunLayout


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a verb; subclasses say what they stand for."""

    def check(self) -> None:
        """Refuses values that no run could use, before anything is read or written.

        Raises:
            UserError: With the setting's name, its value, and what it has to be.
        """

    def inputs(self) -> dict[str, Input]:
        """What the verb takes from a run, the package or a person, by what it is to the verb."""
        return {}

    def reads(self) -> list[Path]:
        """Files and folders that the verb needs, apart from those of the package."""
        return [found.path for found in self.inputs().values() if found.path and found.origin != "bundled"]

    def writes(self) -> list[Path]:
        """Files and folders that the verb makes."""
        return []


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """Settings of a verb that works in a run folder.

    Args:
        run: Run folder; every stage reads and writes its own subfolder of it.
    """

    run: Path = Path("runs/demo")

    @property
    def layout(self) -> RunLayout:
        """Where the run keeps what stages hand on."""
        return RunLayout(self.run)


@dataclass(frozen=True, kw_only=True)
class SeededConfig(RunConfig):
    """Settings of a verb that draws random numbers.

    Args:
        seed: Seed of everything random; the same seed gives the same files on the same machine.
    """

    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class StageConfig(SeededConfig):
    """Settings of a verb that computes.

    Args:
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
    """

    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class LendingConfig(Settings):
    """Settings of a verb that uses a run's models where a run is named, and the bundled ones otherwise.

    Args:
        run: Run folder whose models are used; without it, or where it has none, the bundled ones are.
    """

    run: Path | None = None

    @property
    def layout(self) -> RunLayout:
        """Where the run keeps its models."""
        return RunLayout(self.run)


def to_plain(config: Any) -> dict[str, Any]:
    """A config as YAML can hold it: paths as text, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        return value

    return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
