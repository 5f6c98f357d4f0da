"""Base classes of the settings of all verbs, and their conversion to plain values."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from saliency_gan.compute.types import Device
from saliency_gan.config.checks import require_seed
from saliency_gan.storage.run_layout import Input, RunLayout


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of the settings of a verb."""

    def check(self) -> None:
        """Refuses values that no run can use, before anything is read or written.

        Raises:
            UserError: If a value is not valid; the message has the setting's name, its value and the expected value.
        """

    def inputs(self) -> dict[str, Input]:
        """The verb's inputs from a run, the package or the user, by their role, for example "pairs"."""
        return {}

    def reads(self) -> list[Path]:
        """Files and folders that the verb reads, without those of the package."""
        return [found.path for found in self.inputs().values() if found.path and found.origin != "bundled"]

    def writes(self) -> list[Path]:
        """Files and folders that the verb writes."""
        return []


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """Settings of a verb that works in a run folder.

    Args:
        run: Run folder; every stage writes its own subfolder of it.
    """

    run: Path = Path("runs/demo")

    @property
    def layout(self) -> RunLayout:
        """Paths of the run's files that other stages use."""
        return RunLayout(self.run)


@dataclass(frozen=True, kw_only=True)
class SeededConfig(RunConfig):
    """Settings of a verb that draws random numbers.

    Args:
        seed: Random seed; the same seed gives the same files on the same machine.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self)


@dataclass(frozen=True, kw_only=True)
class StageConfig(SeededConfig):
    """Settings of a verb that computes.

    Args:
        device: Where to compute; auto takes CUDA, then Apple's MPS, then the CPU.
    """

    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class LendingConfig(Settings):
    """Settings of a verb that uses the models of a run if one is given, and the bundled ones otherwise.

    Args:
        run: Run folder whose models are used; without it, or if it has none, the bundled models are used.
    """

    run: Path | None = None

    @property
    def layout(self) -> RunLayout:
        """Paths of the run's models."""
        return RunLayout(self.run)


def to_plain(config: Any) -> dict[str, Any]:
    """Converts a config to values for YAML: paths become text, tuples become lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        return value

    return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
