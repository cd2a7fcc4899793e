"""Plugins: the user's files with architectures and loss terms, registered in every process of a run.

A file is executed only on a machine whose user has passed it to --plugin, and on the nodes of that machine's cluster:
`name_plugin` stores it in the cache under its hash. Run folders and models record the hash, and the copies in them are
never executed, so a downloaded run cannot execute code.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from data.runtime.files import find_cache_folder, write_atomically
from models.config import ConfigError

VARIABLE = "ONE_LOOK_PLUGINS"  # the plugins of this process as JSON; workers inherit it


class PluginError(ConfigError):
    """A plugin cannot be used; the message names it and gives a remedy."""


class Plugin(NamedTuple):
    """A plugin file of the user."""

    name: str
    sha256: str


def name_plugin(text: str) -> Plugin:
    """Store a Python file of this machine's user in the cache, which allows its execution."""
    path = Path(text).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read ({error.strerror})") from error
    if path.suffix != ".py":
        raise argparse.ArgumentTypeError(f"{text} is not a Python file; its name must end in .py")
    plugin = Plugin(path.name, hashlib.sha256(content).hexdigest())
    kept = find_copy(plugin.name, plugin.sha256)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, lambda file: file.write(content))
    except OSError as error:
        reason = f"{kept.parent} cannot be written ({error.strerror}); free some space or set ONE_LOOK_CACHE"
        raise argparse.ArgumentTypeError(f"{text}: {reason}") from error
    return plugin


def add_plugin_option(parser: argparse.ArgumentParser, help: str = "") -> None:
    """Add --plugin, which may be repeated; parsing it stores each file in the cache."""
    usual = "file with an architecture or loss of the run (see plugins/ in the run folder); needed once per machine"
    parser.add_argument("--plugin", type=name_plugin, action="append", default=[], metavar="FILE", help=help or usual)


def hash_by_name(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Return the hash of each plugin by name; raise PluginError if two different files share a name."""
    found: dict[str, str] = {}
    for name, sha256 in plugins:
        if found.setdefault(name, sha256) != sha256:
            raise PluginError(f"--plugin {name}: two files have this name; rename one of them")
    return found


def find_copy(name: str, sha256: str) -> Path:
    """Return where the cache keeps a plugin."""
    return find_cache_folder() / "plugins" / sha256 / name


def load_plugins(recorded: Mapping[str, str], where: Path | str = "", *, shipped: Sequence[str] = ()) -> None:
    """Register the plugins of a run or a model, by name and hash, in this process and its workers.

    `shipped` are folders that are searched after the cache, for files that the user has named on another machine. Raise
    PluginError if the user of this machine has never passed a file to --plugin, or if it raises an exception.
    """
    for name, sha256 in recorded.items():
        module_name = f"one_look_plugin_{sha256[:16]}"
        if module_name not in sys.modules:
            _register(_import(name, module_name, _read_copy(name, sha256, where, shipped)))
    if recorded:
        os.environ[VARIABLE] = json.dumps({**list_plugins(), **recorded})


def load_inherited_plugins() -> None:
    """Register the plugins of the process that started this one; Ray puts those of another machine on the path."""
    load_plugins(list_plugins(), shipped=sys.path)


def list_plugins() -> dict[str, str]:
    """Return the plugins of this process, name and hash."""
    return dict(json.loads(os.environ.get(VARIABLE, "{}")))


def _read_copy(name: str, sha256: str, where: Path | str, shipped: Sequence[str]) -> Path:
    places = (find_copy(name, sha256), *(Path(folder, sha256, name) for folder in shipped))
    path = next((place for place in places if place.is_file()), None)
    if Path(name).name != name or path is None or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        file = Path(where, "plugins", name) if where else name
        raise PluginError(
            f"the plugin {name} (SHA-256 {sha256[:12]}) is not allowed on this machine yet; read its code, then add "
            f"--plugin {file}"
        )
    return path


def _import(name: str, module_name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # errors of the user's code
        del sys.modules[module_name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f" line {lines[-1]}" if lines else ""
        raise PluginError(f"--plugin {name}{line}: {type(error).__name__}: {error}") from error
    module.__dict__["PLUGIN"] = name
    return module


def _register(module: ModuleType) -> None:
    """Add the architectures and terms that a module defines at module level to the registries."""
    from models.architectures.network import Architecture
    from models.architectures.registry import ARCHITECTURES, register_architecture
    from models.losses.registry import TERMS, register_term
    from models.losses.terms import Term

    known = [*ARCHITECTURES.values(), *TERMS.values()]
    defined = [value for value in vars(module).values() if isinstance(value, Architecture | Term)]
    new = [value for value in defined if not any(value is each for each in known)]
    try:
        if not new:
            raise ConfigError("defines neither an Architecture nor a Term at its top level")
        for value in new:
            register_architecture(value) if isinstance(value, Architecture) else register_term(value)
    except ConfigError as error:
        del sys.modules[module.__name__]
        raise PluginError(f"--plugin {module.PLUGIN}: {error}") from error
