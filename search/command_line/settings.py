"""Read and write the settings file: the options of a run as TOML, declared by the command line.

Keys are option names, as in run.json. The tables `score`, `stage` and `space` are fields of RunOptions without a
command-line option; `--set` sets one entry of a table. The command line overrides the file, and the file the defaults.
Relative paths start from the folder of the file.
"""

import argparse
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.runtime.cli import parse_path
from data.runtime.flags import to_flag
from data.runtime.storage import is_uri, parse_location
from models.config import ConfigError, name_nearest
from models.score import DEFAULT_WEIGHTS, SCORED, describe_part, read_weights
from search.config.encoder_weights import HUB, parse_source
from search.config.options import TABLES
from search.config.stages import STAGE_SETTINGS, check_stages, list_changeable_settings

COMMAND_ONLY = ("help", "config", "print_config", "set", "arch", "resume", "dry_run", "plugin")
HEADER = """\
# Settings of a run: python search/run.py --config FILE. The command line overrides this file. A line that begins with #
# shows a value that the run chooses; remove the # to set the value here.
"""
STAGES_NOTE = """
# The values of the stages are those of budgets of at least five full trainings, about an hour on two CPU cores. With a
# smaller budget, a run chooses other values and has no stage confirm, unless a value of [stage.confirm] is set."""
REMOVED = '# remove = ["augment.zoom"]  # parameters that are not searched but keep their defaults'


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that read, write and replace settings."""
    add = parser.add_argument
    add("--config", type=parse_path, metavar="FILE", help="settings file (TOML); other options override it")
    add("--print-config", action="store_true", help="print all settings, each with a comment, as a settings file")
    add(
        "--arch",
        type=_parse_names,
        metavar="NAME[,NAME]",
        help="search these architectures only; the same as --set model.arch=...",
    )
    usage = "replace a setting: optim.lr=0.01 fixes a parameter of the space, stage.explore.epochs=5 changes a stage"
    add("--set", action="append", metavar="NAME=VALUE", help=usage)


def _parse_names(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("no architecture is named; write NAME or NAME,NAME, such as unet,residual")
    return text


def parse_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line and the settings file, which it overrides; raise ConfigError if a setting is invalid."""
    args = parser.parse_args(arguments)
    if args.config is not None:
        parser.set_defaults(**read_settings(args.config, parser))
        args = parser.parse_args(arguments)
    tables = {name: dict(getattr(args, name)) for name in TABLES}
    arch = [] if args.arch is None else [f"model.arch={args.arch}"]
    for assignment in [*arch, *(args.set or [])]:
        _assign(tables, assignment)
    with name_settings_file(args):
        check_stages(tables["stage"], args.stages)
        weights = read_weights(tables["score"])
    tables["score"] = {} if weights == DEFAULT_WEIGHTS else weights
    for name, content in tables.items():
        setattr(args, name, {key: each for key, each in content.items() if each != {}})
    return args


@contextmanager
def name_settings_file(args: argparse.Namespace) -> Iterator[None]:
    """Name the settings file in errors about its tables; --set and --arch change them too and name themselves."""
    try:
        yield
    except ConfigError as error:
        if args.config is None or args.set or args.arch:
            raise
        raise ConfigError(f"--config {args.config}: {error}") from error


def read_settings(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the values in a settings file, by option; raise ConfigError if it cannot be read or a value is wrong."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"--config {path}: is not TOML ({str(error).splitlines()[0]})") from error
    actions = {action.dest: action for action in parser._actions if action.dest not in COMMAND_ONLY}
    try:
        return {name: _read_setting(name, value, actions, path.parent) for name, value in content.items()}
    except (ConfigError, argparse.ArgumentTypeError) as error:
        raise ConfigError(f"--config {path}: {error}") from error


def _read_setting(name: str, value: Any, actions: Mapping[str, argparse.Action], folder: Path) -> Any:
    if name in TABLES:
        if not isinstance(value, dict):
            raise ConfigError(f"{name} = {value!r} must be a table, as --print-config shows")
        return dict(_flatten(value)) if name == "space" else value
    if name not in actions:
        raise ConfigError(f"there is no setting {name!r}; {_advise(name, [*actions, *TABLES])}")
    action = actions[name]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} = {value!r} must be true or false")
        return value
    values = value if isinstance(value, list) else [value]
    if action.nargs == "+":
        return [_parse(action, each, folder) for each in values]
    if isinstance(value, list) and "," in str(action.metavar):
        value = ",".join(map(str, value))
    return _parse(action, value, folder)


def _advise(name: str, known: Sequence[str]) -> str:
    """Return advice on an unknown name."""
    if name in COMMAND_ONLY:
        return f"{to_flag(name)} is given on the command line"
    if "." in name:
        return f"a parameter of the search space is written below [space], a stage as [stage.NAME]: {name}"
    return name_nearest(name, known, otherwise="--print-config lists all settings")


def _parse(action: argparse.Action, value: Any, folder: Path) -> Any:
    """Parse one value as the command line would; a relative path starts from `folder`."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ConfigError(f"{action.dest} = {value!r} must be a string or a number")
    text = str(value)
    parse: Any = action.type or str
    if parse in (parse_path, parse_location, parse_source) and not (is_uri(text) or text.startswith(HUB)):
        text = str(folder / Path(text).expanduser())
    try:
        parsed = parse(text)
    except (argparse.ArgumentTypeError, ValueError) as error:
        reason = str(error) if isinstance(error, argparse.ArgumentTypeError) else f"{text!r} is not a number"
        raise ConfigError(f"{action.dest}: {reason}") from error
    if action.choices is not None and parsed not in action.choices:
        raise ConfigError(f"{action.dest} = {value!r} is not one of {', '.join(map(str, action.choices))}")
    return parsed


def _flatten(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the parameters of the space as `section.field`, however they are nested or written."""
    for key, value in table.items():
        name = key.replace("/", ".")
        if "." not in name and isinstance(value, dict):
            yield from ((f"{name}.{field}", each) for field, each in value.items())
        else:
            yield name, value


def _assign(tables: dict[str, dict[str, Any]], assignment: str) -> None:
    """Set one entry of a table from `NAME=VALUE`; raise ConfigError if it has another form."""
    name, equals, text = assignment.partition("=")
    path = name.strip().replace("/", ".").split(".")
    if not equals or len(path) < 2 or not text.strip():
        raise ConfigError(f"--set {assignment}: write NAME=VALUE, such as optim.lr=0.01; all other options have flags")
    value = _read_value(text.strip())
    if path[0] == "stage" and len(path) == 3:
        stage = tables["stage"].get(path[1], {})
        tables["stage"][path[1]] = {**stage, path[2]: value} if isinstance(stage, dict) else stage
    elif path[0] in tables and path[0] != "space":
        tables[path[0]][".".join(path[1:])] = value
    else:
        key = ".".join(path[1:] if path[0] == "space" else path)
        tables["space"] = {**{k: v for k, v in tables["space"].items() if k != key}, key: value}


def _read_value(text: str) -> Any:
    """Return a value written as TOML, or else as words joined by commas."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        words = [word.strip() for word in text.split(",")]
        return words if len(words) > 1 else words[0]


def format_settings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """Return a run's settings as a settings file with comments; raise ConfigError if [space] is not valid."""
    from search.study.space_settings import list_lines  # imports torch

    lines = [HEADER]
    for action in parser._actions:
        if action.dest not in COMMAND_ONLY:
            value = getattr(args, action.dest)
            shown = format_value(action.metavar or "|".join(action.choices or [action.dest.upper()]))
            lines.append(_format_line(action.dest, value, str(action.help), shown=shown))
    lines.append("\n[score]  # only the metrics named here count; their weights are divided by their sum")
    for name in dict.fromkeys((*(args.score or DEFAULT_WEIGHTS), *SCORED)):
        lines.append(_format_line(name, args.score.get(name), describe_part(name), shown="0.5"))
    lines += [STAGES_NOTE] * (args.stages == "default")
    for stage, settings in list_changeable_settings(args.stages, args.px).items():
        lines.append(f"\n[stage.{stage}]")
        for name, usual in settings.items():
            value = args.stage.get(stage, {}).get(name)
            lines.append(_format_line(name, value, STAGE_SETTINGS[name].about, shown=format_value(usual)))
    lines += ["", "[space]", REMOVED]
    for name, plain, is_decided, about in list_lines(args.space):
        lines.append(_format_line(f'"{name}"', None if is_decided else plain, about, shown=format_value(plain)))
    return "\n".join(lines) + "\n"


def _format_line(name: str, value: Any, about: str, *, shown: str) -> str:
    """Return a line of the file; without a value, a comment that shows `shown`."""
    return f"# {name} = {shown}  # {about}" if value is None else f"{name} = {format_value(value)}  # {about}"


def format_value(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {format_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_value, value))}]"
    plain = str(value) if isinstance(value, Path) else value
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
