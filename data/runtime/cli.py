"""Parse paths of a command line, turn the errors of its body into exit codes, and shorten errors to one line."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from models.config import name_nearest


class Parser(argparse.ArgumentParser):
    """The parser of a command; line breaks of the epilog are kept, and an error is one line without the usage."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, epilog=epilog, formatter_class=form)

    def parse_args(  # type: ignore[override]  # argparse declares overloads for types of the namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the arguments; an unknown option is an error that names the nearest option."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown and not unknown[0].startswith("-"):
            self.error(f"unexpected argument {unknown[0]!r}; --help lists all")
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = unknown[0].partition("=")[0]
            self.error(f"there is no option {name!r}; {name_nearest(name, flags, otherwise='--help lists all')}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the error and end with exit code 2."""
        print_error(message)
        self.exit(2)


def to_printable(text: str) -> str:
    """Return a text in which escape sequences and bytes that are not UTF-8, as file names may have, are spelt out."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def fit_width(text: str, *, error: bool = False) -> str:
    """Return a text for stdout or stderr: on a terminal its lines are wrapped between words."""
    if not (sys.stderr if error else sys.stdout).isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join("\n".join(wrapped) for wrapped in lines)


def parse_path(text: str) -> Path:
    """Return an absolute path, because Ray's workers and resumed runs have another working directory."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!a} is not UTF-8, which Ray and JSON need; rename the folder") from None
    path = Path(text).expanduser().absolute()
    return path.resolve() if ".." in path.parts else path


def run(command: Callable[[], int | None], *errors: type[Exception]) -> int:
    """Run a command and return its exit code: the command's (None is 0), 2 after one of `errors`, 130 after Ctrl-C.

    The message of an error is printed on stderr.
    """
    try:
        return command() or 0
    except errors as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        return 130


def print_error(error: Exception | str) -> None:
    """Print the message of an error on stderr."""
    print(fit_width(f"error: {to_printable(str(error))}", error=True), file=sys.stderr)


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
