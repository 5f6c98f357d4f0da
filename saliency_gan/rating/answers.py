"""What raters answered: one file a rater, written whole after every answer."""

import re
import unicodedata
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from saliency_gan.errors import UserError
from saliency_gan.storage.files import read_json, write_json

RATER = re.compile(r"[^\W_][\w-]{0,31}")
"""A rater's name is the name of a file, so it holds letters, digits, - and _ of any script and nothing else."""


@dataclass(frozen=True)
class Answer:
    """One rater's opinion of one direction.

    Attributes:
        consistent: Does h act consistently over the latents?
        one_factor: Does it change one factor of variation that is easy to interpret?
        name: What the rater would call it; "" for nothing.
        time: When it was given, ISO 8601 in UTC.
    """

    consistent: bool
    one_factor: bool
    name: str
    time: str

    def __post_init__(self) -> None:
        if not (isinstance(self.consistent, bool) and isinstance(self.one_factor, bool) and isinstance(self.name, str)):
            raise TypeError("an answer is two booleans and a text")
        datetime.fromisoformat(self.time)

    @property
    def interpretable(self) -> bool:
        """Both questions were answered with yes."""
        return self.consistent and self.one_factor


def now() -> str:
    """The time of an answer that is given now."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def clean_rater(name: object) -> str:
    """A rater's name as it is stored: composed characters in lower case.

    Raises:
        UserError: If it is no text, or could be anything but the name of a file in the folder of raters.
    """
    cleaned = unicodedata.normalize("NFC", name.strip().lower()) if isinstance(name, str) else ""
    if not RATER.fullmatch(cleaned):
        raise UserError("A rater's name has to be 1 to 32 letters, digits, - or _, beginning with a letter or digit.")
    return cleaned


def load_answers(folder: Path, rater: str) -> dict[str, Answer]:
    """Reads a rater's file.

    Args:
        folder: Folder of raters.
        rater: What `clean_rater` returned.

    Returns:
        Direction id ("learned-17") -> answer, in the order they were first given; empty where there is no file.

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
    """Writes a rater's file, whole or not at all."""
    plain = [{"direction": direction, **asdict(answer)} for direction, answer in answers.items()]
    write_json(_file(folder, rater), {"rater": rater, "answers": plain})


def load_raters(folder: Path) -> dict[str, dict[str, Answer]]:
    """Reads the files of all raters that answered anything, by name."""
    everyone = {path.stem: load_answers(folder, path.stem) for path in sorted(folder.glob("[!.]*.json"))}
    return {rater: answers for rater, answers in everyone.items() if answers}


def _file(folder: Path, rater: str) -> Path:
    return folder / f"{rater}.json"
