"""The rated directions, their order, and the sheets that raters see."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import RateConfig
from saliency_gan.config.rate import KINDS
from saliency_gan.directions.deformator import FIXED_KINDS, Deformator
from saliency_gan.directions.discovered import open_discovered
from saliency_gan.directions.drawing import draw_shifted, lay_out
from saliency_gan.directions.gallery import GALLERY_SHIFTS
from saliency_gan.errors import StageError, UserError
from saliency_gan.images.writing import encode
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.storage.files import read_json, write_json

SHEETS_KEPT = 16
LARGEST_TILE = 128
"""Largest side of a tile in pixels."""


@dataclass(frozen=True)
class RatedDirection:
    """A direction that raters see: column `index` of the matrix of its kind."""

    kind: str
    index: int

    @property
    def id(self) -> str:
        """Key of the direction in the raters' files."""
        return f"{self.kind}-{self.index}"


class Study:
    """The directions of a run and their baselines, ready to be shown.

    Every rater sees the same directions. The order and the ten (z, c) are different for each rater.

    Args:
        config: The stage's settings.

    Attributes:
        found: The run's directions and their generator.
        directions: The rated directions of all kinds.
        columns: Number of directions of every kind, rated or not.

    Raises:
        UserError: If a setting is out of range, or the run's directions are missing or not learned.
    """

    def __init__(self, config: RateConfig) -> None:
        config.check()
        self.config = config
        self.found = open_discovered(config.choice, config.found_directions)
        self._matrices = _matrices(self.found.directions.matrix, config.seed)
        self.columns = {kind: matrix.shape[1] for kind, matrix in self._matrices.items()}
        deformator = self.found.directions.config.get("deformator")
        if deformator in FIXED_KINDS:
            raise UserError(
                f"The directions in {self.found.folder} are {deformator} ones, not learned: rate a run with a"
                " learned A, beside which random and coordinate directions are shown anyway."
            )
        self.directions = [
            RatedDirection(kind, index)
            for number, kind in enumerate(KINDS)
            for index in _chosen(self.columns[kind], getattr(config, kind), config.seed, number)
        ]
        self._fabric = make_fabric(config.device, config.precision)
        self._generator = self.found.generator.to(self._fabric.device)
        self._among = self._generator.class_indices(self.found.directions.config.get("classes"))
        self._sheets: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._drawing = threading.Lock()
        self._closed = False

    def claim(self, folder: Path) -> None:
        """Writes study.json, which identifies the directions that are rated in `folder`.

        Raises:
            UserError: If other directions were rated there.
        """
        identity = {
            "A_sha256": digest_of(self.found.directions.matrix),
            "generator": self.found.directions.generator,
            "columns": self.columns,
            "shifts": list(GALLERY_SHIFTS),
        }
        path = folder / "study.json"
        if path.exists():
            check_study(read_json(path), self.found.directions.matrix, path)
        write_json(path, identity)

    def order_of(self, rater: str) -> list[RatedDirection]:
        """The directions in the order that this rater sees them."""
        order = torch.randperm(len(self.directions), generator=self._stream(rater, 0))
        return [self.directions[number] for number in order.tolist()]

    def sheet(self, rater: str, direction: RatedDirection) -> bytes:
        """Draws a JPEG of G(z + s h, c), where h has unit length.

        Each row is one (z, c) of this rater, and each column is one s of GALLERY_SHIFTS. The last few sheets are kept.
        The method can be called from several threads.

        Raises:
            StageError: If the study was closed.
        """
        key = rater, direction.id
        with self._drawing:
            if self._closed:
                raise StageError("The study has ended: start saliency-gan rate again.")
            if key not in self._sheets:
                self._sheets[key] = self._draw(rater, direction)
                if len(self._sheets) > SHEETS_KEPT:
                    self._sheets.popitem(last=False)
            self._sheets.move_to_end(key)
            return self._sheets[key]

    def close(self) -> None:
        """Waits for a sheet that is being drawn. Later none is drawn, because torch must not compute at the exit."""
        with self._drawing:
            self._closed = True

    def subjects(self, rater: str) -> tuple[Tensor, Tensor]:
        """The z, float [samples, latent_dim], and c, int64 [samples], that this rater sees for every direction."""
        return self._generator.sample(self.config.samples, self._stream(rater, 1), self._among)

    def vector(self, direction: RatedDirection) -> Tensor:
        """h, float [latent_dim], of unit length."""
        return self._matrices[direction.kind][:, direction.index]

    def _draw(self, rater: str, direction: RatedDirection) -> bytes:
        offsets = torch.tensor(GALLERY_SHIFTS)[:, None] * self.vector(direction)
        shown = draw_shifted(self._generator, *self.subjects(rater), offsets, self._fabric)
        return encode(lay_out(shown, min(self._generator.resolution, LARGEST_TILE)), ".jpg", quality=90)

    def _stream(self, rater: str, purpose: int) -> torch.Generator:
        number = int.from_bytes(hashlib.sha256(rater.encode()).digest()[:7])
        return random_stream(self.config.seed, Stream.RATER, number, purpose)


def check_study(study: Any, matrix: Tensor, path: Path) -> None:
    """Refuses a study of other directions than A's.

    Raises:
        UserError: If `study`, which was read from `path`, is not a study, or belongs to another A.
    """
    if not isinstance(study, dict) or study.get("A_sha256") != digest_of(matrix):
        raise UserError(
            f"The answers beside {path} are about other directions than those that the run holds now: choose another"
            f" folder with --run, or move {path.parent} away to begin again."
        )


def digest_of(matrix: Tensor) -> str:
    """sha256 of A alone; it does not change if another h_bg is chosen or a direction gets a name."""
    return hashlib.sha256(matrix.float().contiguous().numpy().tobytes()).hexdigest()


def _matrices(learned: Tensor, seed: int) -> dict[str, Tensor]:
    """Columns of unit length for every kind; the baselines have as many as A, but no more than latent dimensions."""
    count = min(learned.shape)
    random = random_stream(seed, Stream.RATED)
    matrices = {"learned": learned}
    for kind in FIXED_KINDS:
        matrices[kind] = Deformator(kind, len(learned), count, random).matrix
    return {kind: F.normalize(matrices[kind].float(), dim=0) for kind in KINDS}


def _chosen(columns: int, count: int, seed: int, kind: int) -> list[int]:
    """Chooses `count` columns; a larger count keeps the columns of a smaller one and adds others."""
    return torch.randperm(columns, generator=random_stream(seed, Stream.RATED, kind))[:count].tolist()
