"""Settings of `annotate`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.stage import RunConfig


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig(RunConfig):
    """Names a direction of a run, or removes its name; without a direction it lists the names.

    Args:
        direction: Index or current name of the direction.
        name: New name of the direction.
        remove: Remove the direction's name.
    """

    direction: int | str | None = None
    name: str | None = None
    remove: bool = False

    def reads(self) -> list[Path]:
        return [self.run / "discover" / "directions.json"]

    def writes(self) -> list[Path]:
        if self.direction is None:
            return []
        return [self.run / "discover" / name for name in ("directions.json", "gallery/index.html")]
