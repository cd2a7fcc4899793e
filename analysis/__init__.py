"""What people look at: trial tables, curves, predictions, benchmarks. Reads records, never Ray.

    from analysis import load_model
    mask, depth = load_model("runs/x").predict(rgb)

A photo goes in as RGB bytes, mask and depth come out at its size.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.model import load_model as load_model

__all__ = ["AnalysisError", "load_model"]


class AnalysisError(ValueError):
    """A run, a model or a photo that cannot be used; the message is one line that says what to do."""


def __getattr__(name: str) -> Any:
    """Import `load_model` when it is first asked for: torch takes seconds, and tables do without it."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis.model import load_model

    return load_model


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
