"""The answers of the raters: one file per rater, written completely after every answer."""

import re
import unicodedata
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from saliency_gan.errors import UserError
from saliency_gan.storage.files import read_json, write_json

RATER = re.compile(r"[^\W_][\w-]{0,31}")
"""A rater's name is the name of a file, so only letters and digits of any script, - and _ are allowed."""


@dataclass(frozen=True)
class Answer:
    """One rater's opinion of one direction.

    Attributes:
        consistent: Does h act consistently over the latents?
        one_factor: Does it change one factor of variation that is easy to interpret?
        name: The rater's name for the direction; "" for none.
        time: The time of the answer, ISO 8601 in UTC.
    """

    consistent: bool
    one_factor: bool
    name: str
    time: str

    def __post_init__(self) -> None:
        if not (isinstance(self.consistent, bool) and isinstance(self.one_factor, bool) and isinstance(self.name, str)):
            raise TypeError("an answer is two booleans and a text")
        if datetime.fromisoformat(self.time).tzinfo is None:
            raise ValueError(f"{self.time} has no time zone")

    @property
    def interpretable(self) -> bool:
        """Whether both questions were answered with yes."""
        return self.consistent and self.one_factor


def now() -> str:
    """The current time in the format of an answer."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def clean_rater(name: object) -> str:
    """Returns a rater's name as it is stored: composed characters in lower case.

    Raises:
        UserError: If it is not a text, or not allowed as the name of a file in the folder of raters.
    """
    cleaned = unicodedata.normalize("NFC", name.strip().lower()) if isinstance(name, str) else ""
    if not RATER.fullmatch(cleaned):
        raise UserError("A rater's name has to be 1 to 32 letters, digits, - or _, beginning with a letter or digit.")
    return cleaned


def load_answers(folder: Path, rater: str) -> dict[str, Answer]:
    """Reads a rater's file.

    Args:
        folder: Folder of raters.
        rater: Name that `clean_rater` returned.

    Returns:
        Direction id ("learned-17") -> answer, in the order of the first answers; empty if there is no file.

    Raises:
        UserError: If the file is damaged.
    """
    path = _file(folder, rater)
    if not path.exists():
        return {}
    content = read_json(path)
    try:
        return {str(answer.pop("direction")): Answer(**answer) for answer in content["answers"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} does not hold answers as the page writes them ({error!r}): repair or move it."
        ) from None


def save_answers(folder: Path, rater: str, answers: dict[str, Answer]) -> None:
    """Writes a rater's file, completely or not at all."""
    plain = [{"direction": direction, **asdict(answer)} for direction, answer in answers.items()]
    write_json(_file(folder, rater), {"rater": rater, "answers": plain})


def load_raters(folder: Path) -> dict[str, dict[str, Answer]]:
    """Reads the answers of all raters that have answered something, by name."""
    everyone = {path.stem: load_answers(folder, path.stem) for path in sorted(folder.glob("[!.]*.json"))}
    return {rater: answers for rater, answers in everyone.items() if answers}


def _file(folder: Path, rater: str) -> Path:
    return folder / f"{rater}.json"
