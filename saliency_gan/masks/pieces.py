"""Divides the drawing of candidates between the processes of a torchrun job. They exchange candidates in files."""

import io
import json
from collections.abc import Generator as Stream
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saliency_gan.compute.processes import is_main, meet, rank, world_size
from saliency_gan.masks.candidates import Candidate, CandidateSource
from saliency_gan.storage.files import write_bytes


class Pieces:
    """The stream of candidates, cut into pieces. One process draws each piece, and all processes read it.

    Piece i holds the verdicts on `length` candidates from number i * length on, and the pixels of the accepted ones. So
    a piece depends only on the settings. The next run uses finished pieces, and draws unfinished ones again, possibly
    in another process.

    Args:
        folder: Folder of the pieces, as long as they are needed.
        source: Source of the candidates.

    Attributes:
        needed_from: First candidate that is still needed; pieces before it are removed.
    """

    def __init__(self, folder: Path, source: CandidateSource) -> None:
        self.folder, self.source = folder, source
        # Whole batches, because the last digits of an image depend on the other images in its batch.
        batch = source.config.batch
        self.length = -(-source.config.shard_size // batch) * batch
        self.needed_from = 0

    def stream(self, first: int = 0) -> Stream[Candidate, None, None]:
        """Yields the same candidates as `CandidateSource.stream`, but rejected ones without pixels.

        In every round, each process draws one piece. Then every process reads all pieces in order.
        """
        index = first // self.length
        while True:
            self._draw(index + rank())
            meet()
            if is_main():
                self._remove_before(self.needed_from)
            for one in range(index, index + world_size()):
                for candidate in self._read(one):
                    if candidate.number >= first:
                        yield candidate
            index += world_size()

    def _draw(self, index: int) -> None:
        if self._verdicts(index) is not None:
            return
        verdicts, pixels = [], []
        candidates = self.source.stream(index * self.length)
        for _ in range(self.length):
            candidate = next(candidates)
            verdicts.append((candidate.class_name, candidate.rejected_by, candidate.fit))
            if candidate.rejected_by is None:
                pixels.append(np.concatenate([candidate.image.ravel(), candidate.mask.ravel()]))
        candidates.close()
        buffer = io.BytesIO()
        np.save(buffer, np.stack(pixels) if pixels else np.empty((0, 0), np.uint8))
        write_bytes(self._path(index, "npy"), buffer.getbuffer())
        # Written last, because this file marks the piece as complete.
        write_bytes(self._path(index, "json"), json.dumps({**self._identity(), "verdicts": verdicts}).encode())

    def _read(self, index: int) -> Stream[Candidate, None, None]:
        verdicts = self._verdicts(index)
        assert verdicts is not None, "drawn before the processes met"
        side = self.source.generator.resolution
        rows = iter(np.asarray(np.load(self._path(index, "npy"), mmap_mode="r")))  # read from disk on first access
        nothing: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        for number, (class_name, rejected_by, fit) in enumerate(verdicts, index * self.length):
            image, mask = nothing, nothing[..., 0]
            if rejected_by is None:
                row = next(rows)
                image, mask = row[: 3 * side**2].reshape(side, side, 3), row[3 * side**2 :].reshape(side, side)
            yield Candidate(number, class_name, image, mask, rejected_by, fit)

    def _verdicts(self, index: int) -> list[tuple[str, str | None, float | None]] | None:
        """Class, verdict and fit of every candidate; None for a piece that is missing or was made with other inputs."""
        try:
            piece = json.loads(self._path(index, "json").read_bytes())
            return piece.pop("verdicts") if self._identity().items() <= piece.items() else None
        except (OSError, ValueError, AttributeError, KeyError):
            return None

    def _identity(self) -> dict[str, Any]:
        return {**self.source.identity, "length": self.length}

    def _path(self, index: int, suffix: str) -> Path:
        return self.folder / f"piece-{index:06d}.{suffix}"

    def _remove_before(self, number: int) -> None:
        for path in self.folder.glob("piece-*.*"):
            index = path.stem.removeprefix("piece-")
            if index.isdecimal() and (int(index) + 1) * self.length <= number:
                path.unlink()
