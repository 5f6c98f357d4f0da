"""How much memory reading an image takes, for a process that has done nothing before."""

import contextlib
import resource
import sys
from pathlib import Path

from saliency_gan.errors import UserError
from saliency_gan.images.reading import read_image

UNIT = 1 if sys.platform == "darwin" else 1024


def growth_of_reading(path: Path) -> int:
    """Bytes by which the most memory that this process has ever had grows when it reads an image, or refuses it."""
    before = _peak()
    with contextlib.suppress(UserError):
        read_image(path)
    return _peak() - before


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
