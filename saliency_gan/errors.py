"""The two kinds of failure that a person meets, and the exit code of each."""


class UserError(Exception):
    """A mistake in what was asked: a wrong path, a setting out of range, files that do not belong together.

    The message is one sentence that says what was given, what was expected and what to do next. Exit code 2.
    """

    exit_code = 2


class StageError(Exception):
    """A stage could not finish although it was asked correctly: a full disk, some unreadable photos. Exit code 1."""

    exit_code = 1
