"""The two kinds of failure that a person meets, and the exit code of each."""

from unicodedata import category


class _OneLineError(Exception):
    """A failure whose message is one line, whatever the names of files in it hold: breaks and codes for the terminal
    are shown as escapes."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UserError(_OneLineError):
    """A mistake in what was asked: a wrong path, a setting out of range, files that do not belong together.

    The message is one sentence that says what was given, what was expected and what to do next. Exit code 2.
    """

    exit_code = 2


class StageError(_OneLineError):
    """A stage could not finish although it was asked correctly: a full disk, some unreadable photos. Exit code 1."""

    exit_code = 1


def one_line(text: str) -> str:
    """Text whose line breaks, other control characters and bytes that are no UTF-8 are escapes."""
    return "".join(
        letter.encode("unicode_escape").decode() if category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter
        for letter in text
    )
