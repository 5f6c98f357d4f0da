"""Settings of `walk`."""

from dataclasses import dataclass
from pathlib import Path

from saliency_gan.config.checks import require, require_positive, require_shifts, require_suffix
from saliency_gan.config.generator import DrawingConfig
from saliency_gan.storage.run_layout import Input

WALK_SUFFIXES = (".gif", ".mp4", ".png")


@dataclass(frozen=True, kw_only=True)
class WalkConfig(DrawingConfig):
    """Renders a walk along a direction: G(z + s h, c) with s from start to end, for several z and c at once.

    Args:
        direction: Index or name of the direction; by default the background direction h_bg.
        output: File to write; the suffix chooses an animation (.gif, .mp4) or a strip with one row per latent (.png).
        samples: Latents to show.
        start: First shift, in units of a unit-length direction.
        end: Last shift.
        frames: Number of shifts from start to end; by default 33 for an animation, 9 for a strip.
        fps: Frames per second of an animation, 1 to 50.
        back: Let an animation go back to the start, so that it repeats without a jump.
        scale: Size of a shown image as a multiple of the generated one.
    """

    direction: int | str | None = None
    output: Path = Path("walk.gif")
    samples: int = 6
    start: float = -8.0
    end: float = 8.0
    frames: int | None = None
    fps: int = 16
    back: bool = True
    scale: float = 2.0

    def inputs(self) -> dict[str, Input]:
        return {**super().inputs(), "directions": self.found_directions}

    def check(self) -> None:
        require_suffix(self, "output", self.output, *WALK_SUFFIXES)
        require_positive(self, "samples")
        require(self, "frames", self.frames is None or self.frames >= 2, "2 or more")
        require(self, "fps", 1 <= self.fps <= 50, "from 1 to 50")
        require(self, "scale", 0 < self.scale <= 16, "above 0 and at most 16")
        require_shifts(self, "start", self.start)
        require_shifts(self, "end", self.end)
        require(self, "end", self.start != self.end, f"another number than --start {self.start:g}")

    def writes(self) -> list[Path]:
        return [self.output]
