"""Stated configurations instead of a search: a list, or a product, read from a JSON file.

    [{"recipe": "unet", "model/width": 8},
     {"recipe": "residual", "product": {"optim/lr": [0.01, 0.003], "loss/balance": ["fixed", "adaptive"]}}]

An entry starts from its recipe, if it names one; keys `section/field`, or whole sections as in best/config.json, are
laid over it; `product` makes one configuration of every combination of its lists. The content of a best/config.json is
an entry too. Knows neither Ray nor Optuna.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.config import ConfigError
from search.config.recipes import build_recipe
from search.config.trial import TrialConfig


class GridError(ConfigError):
    """A grid file that cannot be used; the message says where and what to change."""


def read_grid(path: Path) -> list[TrialConfig]:
    """Return the configurations that a grid file states, in order.

    Raises:
        GridError: No such file, no JSON, or an entry that gives no configuration; its number is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GridError(f"--grid {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise GridError(f"--grid {path}: is not JSON ({error})") from error
    entries = content if isinstance(content, list) else [content]
    if not entries:
        raise GridError(f"--grid {path}: states no configuration; write a list of entries")
    configs = []
    for number, entry in enumerate(entries, start=1):
        try:
            configs += list(expand(entry))
        except ConfigError as error:
            raise GridError(f"--grid {path}: entry {number}: {error}") from error
    return configs


def expand(entry: Any) -> Iterator[TrialConfig]:
    """Yield the configurations of one entry.

    Raises:
        ConfigError: It is not an object, its product holds no lists, or a key or value is not allowed.
    """
    stated = entry.get("config", entry) if isinstance(entry, dict) else entry
    if not isinstance(stated, dict):
        raise ConfigError(f"{stated!r} is no object of keys section/field")
    stated = dict(stated)
    start, product = stated.pop("recipe", None), stated.pop("product", {})
    if not isinstance(product, dict) or not all(isinstance(v, list) and v for v in product.values()):
        raise ConfigError('"product" must give a list of values for each key')
    base = {} if start is None else build_recipe(str(start)).flat()
    for values in itertools.product(*product.values()):
        yield _config(base, {**flat(stated), **dict(zip(product, values, strict=True))})


def flat(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with whole sections taken apart into keys `section/field`."""
    keys: dict[str, Any] = {}
    for key, value in entry.items():
        keys |= {f"{key}/{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return keys


def _config(base: dict[str, Any], stated: dict[str, Any]) -> TrialConfig:
    """Lay `stated` over a recipe; another architecture than the recipe's takes none of its model options."""
    if stated.get("model/arch", base.get("model/arch")) != base.get("model/arch"):
        base = {key: value for key, value in base.items() if not key.startswith("model/")}
    return TrialConfig.from_flat({**base, **stated})
