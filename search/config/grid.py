"""Read the configurations of a grid from a JSON file, which are trained instead of a search.

    [{"recipe": "unet", "model/width": 8},
     {"recipe": "residual", "product": {"optim/lr": [0.01, 0.003], "loss/balance": ["fixed", "adaptive"]}}]

An entry starts from its recipe, if it names one. Keys `section/field`, or whole sections as in best/config.json,
replace its values, and `product` gives one configuration for each combination of its lists. The content of a
best/config.json is a valid entry.
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
    """A grid file cannot be used; the message names the entry and a remedy."""


def read_grid(path: Path) -> list[TrialConfig]:
    """Return the configurations of a grid file in order.

    Raises:
        GridError: The file is missing or not JSON, or an entry, whose number is given, is not valid.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GridError(f"--grid {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise GridError(f"--grid {path}: is not JSON ({error})") from error
    entries = content if isinstance(content, list) else [content]
    if not entries:
        raise GridError(f"--grid {path}: has no configuration; write a list of entries")
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
        ConfigError: The entry is not an object, its product has no lists, or a key or value is not allowed.
    """
    configured = entry.get("config", entry) if isinstance(entry, dict) else entry
    if not isinstance(configured, dict):
        raise ConfigError(f"{configured!r} is not an object with keys section/field")
    configured = dict(configured)
    start, product = configured.pop("recipe", None), configured.pop("product", {})
    if not isinstance(product, dict) or not all(isinstance(v, list) and v for v in product.values()):
        raise ConfigError('"product" must give a list of values for each key')
    base = {} if start is None else build_recipe(str(start)).flat()
    for values in itertools.product(*product.values()):
        yield _config(base, {**flat(configured), **dict(zip(product, values, strict=True))})


def flat(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with keys `section/field` in place of whole sections."""
    keys: dict[str, Any] = {}
    for key, value in entry.items():
        keys |= {f"{key}/{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return keys


def _config(base: dict[str, Any], configured: dict[str, Any]) -> TrialConfig:
    """Replace values of a recipe; a different architecture takes none of its model options."""
    if configured.get("model/arch", base.get("model/arch")) != base.get("model/arch"):
        base = {key: value for key, value in base.items() if not key.startswith("model/")}
    return TrialConfig.from_flat({**base, **configured})
