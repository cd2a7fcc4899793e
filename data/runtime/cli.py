"""Run a command line's body and turn its errors into exit codes, and shorten errors to one line."""

import sys
from collections.abc import Callable


def to_printable(text: str) -> str:
    """Return a text in which escape sequences and bytes that are not UTF-8, as file names may have, are spelt out."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def run(command: Callable[[], int | None], *errors: type[Exception]) -> int:
    """Run a command and return its exit code.

    Args:
        command: The body of the command line; None counts as exit code 0.
        *errors: The user's mistakes: their message is printed on stderr, and the exit code is 2.

    Returns:
        The command's exit code, 2 for one of `errors`, or 130 if the user stopped the command.
    """
    try:
        return command() or 0
    except errors as error:
        print(f"error: {to_printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
