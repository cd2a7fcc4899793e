"""Everything a person looks at: trial tables, curves, reports, predictions, comparisons.

    from analysis import load_model
    mask, depth = load_model("runs/x").predict(rgb)

`predict` takes a photo as RGB bytes and returns mask and depth at the photo's size.
"""

from typing import TYPE_CHECKING, Any

from analysis.exceptions import AnalysisError

if TYPE_CHECKING:
    from analysis.model import load_model as load_model

__all__ = ["AnalysisError", "load_model"]


def __getattr__(name: str) -> Any:
    """Import `load_model` on first use: it imports torch, which takes seconds and which tables do not need."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis.model import load_model

    return load_model
