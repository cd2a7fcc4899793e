"""Run a command line's body and turn its errors into exit codes."""

import sys
from collections.abc import Callable


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
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
