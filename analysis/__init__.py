"""Inspect runs and use trained models: reports, plots, tables, predictions, exports, comparisons of methods.

    from analysis import load_model
    mask, depth = load_model("runs/x").predict(rgb)

`predict` takes an image as RGB bytes and returns mask and depth at the image's size. The commands are
`one-look report`, `predict`, `export`, `demo`, `evaluate` and `compare`, and `python -m analysis.plots`.
"""

from typing import TYPE_CHECKING, Any

from data.runtime.process import prepare_process

if TYPE_CHECKING:
    from analysis.predict.model import load_model as load_model

__all__ = ["AnalysisError", "load_model"]

prepare_process()


class AnalysisError(ValueError):
    """A run, model, photo or option cannot be used; the message is one line that says what to do.

    All functions of `analysis` raise this error for invalid input.
    """


def __getattr__(name: str) -> Any:
    """Import `load_model` on first use: it imports torch, which takes seconds and is not needed for tables."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analysis.predict.model import load_model

    return load_model
