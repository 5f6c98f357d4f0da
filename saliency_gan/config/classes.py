"""Files of class names. They are read when the settings are created, so a run records the names themselves."""

from pathlib import Path

from saliency_gan.errors import UserError

Classes = tuple[str | int, ...] | None
"""Names, indices and ranges of classes; None for all."""


class ClassesRead(tuple[str | int, ...]):
    """Classes whose files were read; a name among them that looks like a file is a name."""


def read_class_files(classes: Classes | str) -> Classes:
    """Replaces `@FILE`, and every entry that looks like the path of a text file, with the lines of that file.

    Each line is one name, index or range, and may contain commas. Empty lines and those that begin with # are skipped.

    Raises:
        UserError: If a file cannot be read or holds no class.
    """
    if classes is None or isinstance(classes, ClassesRead):
        return classes
    listed: list[str | int] = []
    for words in (classes,) if isinstance(classes, str) else classes:
        listed += _lines(Path(str(words).removeprefix("@"))) if _is_file(str(words)) else [words]
    return ClassesRead(listed)


def _is_file(words: str) -> bool:
    return words.startswith("@") or words.endswith(".txt") or "/" in words


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"The file of classes {path} cannot be read ({reason}): give one name a line.") from None
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise UserError(f"The file of classes {path} is empty: give one name, index or range a line.")
    return lines
