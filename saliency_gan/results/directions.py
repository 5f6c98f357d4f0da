"""The directions file. Stage 1 writes it for stage 2 and the report."""

import difflib
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from saliency_gan.errors import UserError, one_line, reason_of
from saliency_gan.generators.base import Generator
from saliency_gan.images.brightness import Polarity
from saliency_gan.storage.bundled import bundled_folder, generators_with_directions
from saliency_gan.storage.files import read_json, sha256_of, write_bytes, write_json


@dataclass(frozen=True)
class BackgroundDirection:
    """The chosen background direction h_bg.

    Attributes:
        index: Column of A, or None for an optimised direction.
        sign: +1 or -1, already applied to `Directions.background_vector`.
        shift: Magnitude eps of the shift, in units of the unit-length vector.
        polarity: Whether the background turns bright (mask = darker than theta) or dark (mask = brighter than
            1 - theta).
        method: rank or optimise.
        chosen_by: auto or user.
        score: How well it clears the background, 0 to 1.
        parts: Name -> part of the score, each 0 to 1.
    """

    index: int | None
    sign: int
    shift: float
    polarity: Polarity
    method: str = "rank"
    chosen_by: str = "auto"
    score: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Directions:
    """Latent directions of one generator.

    Attributes:
        matrix: A, float32 [latent_dim, K]; column k is direction k.
        background_vector: h_bg with its sign applied and unit length, float32 [latent_dim].
        background: How h_bg was chosen.
        generator: {"name": ..., "sha256": ...} of the generator they belong to.
        scores: One dict per direction, best first: index, rank, sign, shift, polarity, score, parts and samples.
        rca: {"accuracy", "low", "high", "samples", "shift_mae"} of the reconstructor; empty if it was not measured.
        config: The resolved settings of stage 1.
        names: Names of directions: index -> name; all names are different.
    """

    matrix: Tensor
    background_vector: Tensor
    background: BackgroundDirection
    generator: dict[str, str]
    scores: list[dict[str, Any]] = field(default_factory=list)
    rca: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes directions.safetensors and directions.json into `folder`, each atomically."""
        tensors = {"A": self.matrix, "background": self.background_vector}
        tensors = {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}
        # The file's sha256 identifies all that pairs depend on. Several entries would be written in any order.
        identity = {"generator": self.generator, "shift": self.background.shift, "polarity": self.background.polarity}
        file = safetensors.torch.save(tensors, {"directions": json.dumps(identity)})
        write_bytes(folder / "directions.safetensors", file)
        write_json(
            folder / "directions.json",
            {
                "generator": self.generator,
                "directions_sha256": hashlib.sha256(file).hexdigest(),
                "latent_dim": self.matrix.shape[0],
                "K": self.matrix.shape[1],
                "rca": self.rca,
                "background": asdict(self.background),
                "directions": self.scores,
                "config": self.config,
                "names": {str(index): name for index, name in sorted(self.names.items())},
            },
        )

    def index_of(self, direction: int | str) -> int:
        """Column of A for an index or a name.

        Raises:
            UserError: If there is no such direction.
        """
        count = self.matrix.shape[1]
        if isinstance(direction, int):
            if not 0 <= direction < count:
                raise UserError(
                    f"There is no direction {direction} among K = {count}: give 0 to {count - 1}, or a name."
                )
            return direction
        indices = {self.own_name(index): index for index in self.names}
        indices |= {name: index for index, name in self.names.items()}
        indices.pop("", None)
        if direction not in indices:
            near = difflib.get_close_matches(direction, indices, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]!r}?" if near else "no direction has a name yet, see annotate."
            raise UserError(
                f"No direction is called {direction!r}: give an index from 0 to {count - 1} or a name; {hint}"
            )
        return indices[direction]

    def own_name(self, index: int) -> str:
        """The generator's name for a built-in column, for example L1D1; "" for a discovered column.

        A name given by the user keeps it as a prefix, "L1D1: brightness". `index_of` also accepts it alone.
        """
        learned = self.config.get("K", self.matrix.shape[1])
        return self.names.get(index, "").partition(": ")[0] if index >= learned else ""

    def check_generator(self, generator: Generator) -> None:
        """Checks that these directions are valid for a generator, see `Generator.is_described_by`.

        Raises:
            UserError: If they belong to other weights, or to other ablated units.
        """
        if not generator.is_described_by(self.generator["sha256"]):
            raise UserError(
                f"The directions belong to generator {self.generator['name']} ({self.generator['sha256'][:12]}), but"
                f" {generator.name} ({generator.sha256[:12]}) was given: run discover on it, or name the other one,"
                " with the same --ablate_units."
            )


def load_directions(folder: Path | str) -> Directions:
    """Reads what `Directions.save` wrote.

    Args:
        folder: The folder, for example runs/demo/discover; or the name of a generator that is bundled with directions.

    Raises:
        UserError: If a file is missing or damaged, or the two files do not fit together.
    """
    folder = bundled_folder(str(folder)) if str(folder) in generators_with_directions() else Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is neither the discover folder of a run nor a generator that is bundled with directions:"
            f" run discover, or give one of {', '.join(generators_with_directions())}."
        )
    if not (folder / "directions.json").exists():
        raise UserError(
            f"{folder} has no directions.json, because discover has not finished there: run it to its end, or delete"
            " the folder and use bundled directions."
        )
    description = read_json(folder / "directions.json")
    path = folder / "directions.safetensors"
    try:
        tensors = safetensors.torch.load_file(path)
        matrix, vector = tensors["A"], tensors["background"]
        background = BackgroundDirection(**description["background"])
        shape = (description["latent_dim"], description["K"])
        generator = {"name": str(description["generator"]["name"]), "sha256": str(description["generator"]["sha256"])}
        scores, rca, config = description["directions"], description["rca"], description["config"]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run discover first.") from None
    except (safetensors.SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder} holds no usable directions ({reason_of(error)}): run discover again.") from None
    if matrix.shape != shape or vector.shape != shape[:1]:
        raise UserError(
            f"{path} holds A of shape {tuple(matrix.shape)} and h_bg of shape {tuple(vector.shape)}, but the json file"
            f" beside it describes {shape}: run discover again."
        )
    matrix, vector = matrix.float(), vector.float()
    if not (torch.isfinite(matrix).all() and torch.isfinite(vector).all()):
        raise UserError(f"{path} holds directions that are not finite: run discover again.")
    if not (_is_valid(background, shape[1]) and _are_tables(scores, rca, config, shape[1])):
        raise UserError(
            f"{folder / 'directions.json'} does not describe directions as discover writes them: run discover again."
        )
    names = read_names(folder, shape[1])
    if description.get("directions_sha256") not in (None, sha256_of(path)):  # older files have no such entry
        raise UserError(f"{path} is not the file that directions.json beside it describes: run discover again.")
    return Directions(matrix, vector, background, generator, scores, rca, config, names)


def read_names(folder: Path, columns: int) -> dict[int, str]:
    """Reads only the names in directions.json: column of A -> name.

    Raises:
        UserError: If the file cannot be read, two names are the same, or one belongs to none of the `columns`.
    """
    path = folder / "directions.json"
    given: Any = None
    try:
        given = read_json(path).get("names", {})
        names = {int(index): one_line(str(name)) for index, name in given.items()}
        valid = names.keys() <= set(range(columns)) and len(set(names.values())) == len(names)
    except (AttributeError, ValueError):
        valid = False
    if not valid:
        raise UserError(
            f"{path} names directions that there are none of, or two alike ({str(given)[:150]}): correct its entry"
            " names, or remove it."
        )
    return names


def _is_valid(background: BackgroundDirection, columns: int) -> bool:
    """Whether the values have the types and ranges that `BackgroundDirection` describes."""
    index, words = background.index, (background.method, background.chosen_by)
    return (
        (index is None or (type(index) is int and 0 <= index < columns))
        and (type(background.sign) is int and background.sign in (-1, 1))
        and _is_number(background.shift)
        and background.polarity in get_args(Polarity)
        and all(isinstance(word, str) for word in words)
        and _is_number(background.score)
        and isinstance(background.parts, dict)
        and all(_is_number(part) for part in background.parts.values())
    )


def _are_tables(scores: Any, rca: Any, config: Any, columns: int) -> bool:
    if not (isinstance(scores, list) and isinstance(rca, dict) and isinstance(config, dict)):
        return False
    learned = config.get("K", 0)
    counted = type(learned) is int and 0 <= learned <= columns
    return counted and all(map(_is_number, rca.values())) and all(_is_ranked(row, columns) for row in scores)


def _is_ranked(row: Any, columns: int) -> bool:
    try:
        found = BackgroundDirection(row["index"], row["sign"], row["shift"], row["polarity"], parts=row["parts"])
        return (
            type(row["index"]) is int
            and type(row["rank"]) is int
            and _is_number(row["score"])
            and _is_valid(found, columns)
        )
    except (LookupError, TypeError):
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
