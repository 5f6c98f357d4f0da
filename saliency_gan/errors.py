"""The two kinds of errors that users see, and the exit code of each."""

from unicodedata import category


class _OneLineError(Exception):
    """An error whose message is always one line: line breaks and terminal codes, which file names may contain, are
    escaped."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UserError(_OneLineError):
    """A mistake of the user: a wrong path, a setting out of range, files that do not belong together.

    The message is one sentence that says what was given, what was expected and what to do next. Exit code 2.
    """

    exit_code = 2


class StageError(_OneLineError):
    """A stage could not finish although the user made no mistake: a full disk, some unreadable photos. Exit code 1."""

    exit_code = 1


def reason_of(error: BaseException) -> str:
    """The message of a library's error on one line of at most 150 characters; its type if it has no message."""
    return " ".join(str(error).split())[:150] or type(error).__name__


def one_line(text: str) -> str:
    """Escapes line breaks, other control characters and bytes that are not UTF-8."""
    return "".join(
        letter.encode("unicode_escape").decode() if category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter
        for letter in text
    )
