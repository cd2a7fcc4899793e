"""Shared options: roles of sub-folders, fields of dataset.json. No NumPy import, so that --help is quick."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from data.dataset import DEPTH_UNITS, POLARITIES

ROLE_FLAGS = {"image": "--images", "mask": "--masks", "depth": "--depth"}


def parse_numbers(text: str) -> tuple[float, ...]:
    """Parse numbers separated by commas."""
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def parse_whole(low: int = 0, high: int | None = None, noun: str = "a whole number") -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`; None for no upper limit."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            limits = f" from {low} to {high}" if high is not None else f", at least {low}"
            raise argparse.ArgumentTypeError(f"{text!r} is not {noun}{limits}")
        return int(text)

    return parse


_LIST: dict[str, Any] = {"type": parse_numbers, "metavar": "N[,N]"}
MEANING_FLAGS: dict[str, dict[str, Any]] = {  # destination -> arguments of add_argument
    "near": {"choices": POLARITIES, "help": "polarity of relative depth: value of near pixels"},
    "depth_unit": {"choices": DEPTH_UNITS, "help": "unit of the depth values"},
    "depth_scale": {"type": float, "metavar": "N", "help": "depth values per unit (e.g. 256 for KITTI, 5000 for TUM)"},
    "missing": _LIST | {"help": "depth values that mean unknown"},
    "mask_foreground": _LIST | {"help": "mask values that are foreground"},
    "mask_ignored": _LIST | {"help": "mask values that mean unknown"},
    "group_size": {
        "type": parse_whole(),
        "metavar": "N",
        "help": "number of consecutive files that share a background",
    },
}


def to_flag(name: str) -> str:
    """Return the flag of a destination: --depth-unit of depth_unit."""
    return "--" + name.replace("_", "-")


def add_meaning_flags(parser: argparse._ActionsContainer) -> None:
    """Add --near, --depth-unit, --depth-scale, --missing, --mask-foreground, --mask-ignored and --group-size."""
    for name, argument in MEANING_FLAGS.items():
        parser.add_argument(to_flag(name), **argument)


def read_meaning_flags(args: object) -> dict[str, Any]:
    """Return the fields of dataset.json that parsed arguments, or an object with the same attributes, set."""
    fields = {name: getattr(args, name) for name in MEANING_FLAGS}
    masks = {"foreground": fields.pop("mask_foreground"), "ignored": fields.pop("mask_ignored")}
    fields["mask_values"] = {key: list(values) for key, values in masks.items() if values is not None} or None
    if missing := fields["missing"]:
        fields["missing"] = missing[0] if len(missing) == 1 else list(missing)
    return {key: value for key, value in fields.items() if value is not None}


def add_role_flags(parser: argparse.ArgumentParser) -> None:
    """Add --images, --masks and --depth."""
    for role, flag in ROLE_FLAGS.items():
        text = f"sub-folder of the {flag[2:]}, if its name does not show its role"
        parser.add_argument(flag, dest=f"{role}_folder", metavar="NAME", help=text)


def read_role_flags(args: argparse.Namespace) -> Mapping[str, str]:
    """Return the folder of each role that the parsed arguments name."""
    return {role: name for role in ROLE_FLAGS if (name := getattr(args, f"{role}_folder"))}
