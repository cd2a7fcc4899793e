"""The command `one-look`: its sub-commands are the command lines of the packages, each imported when it is called."""

import argparse
import sys
from importlib import import_module

from data.runtime import cli

COMMANDS = {  # module and description of each sub-command
    "search": ("search.run", "search for a network, train it and write its report"),
    "check": ("data.check.__main__", "find the faults of a data set folder"),
    "compose": ("data.compose.__main__", "make a data set of photos and cut-outs"),
    "predict": ("analysis.predict.__main__", "predict foreground and depth of photos"),
    "evaluate": ("analysis.predict.evaluate", "measure a model on other data sets"),
    "report": ("analysis.report.__main__", "write the report of a run"),
    "demo": ("analysis.demo", "open a local web page to try a model on photos"),
    "export": ("analysis.export.__main__", "write a model as one file for other programs"),
    "compare": ("analysis.compare.__main__", "compare search methods at equal budget"),
    "reproduce": ("search.reproduce.__main__", "train a recorded trial again and compare its metrics"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command; return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    purpose = "Search for a small network that predicts foreground mask and depth from one image."
    parser = cli.Parser("one-look", purpose)
    plain = argparse.ArgumentParser
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands; each has --help", parser_class=plain
    )
    for name, (_, description) in COMMANDS.items():
        commands.add_parser(name, help=description, add_help=False)
    command = parser.parse_args(words[:1] or ["--help"]).command
    code: int = import_module(COMMANDS[command][0]).main(words[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
