"""The errors of the analysis commands, and how an error becomes one line."""


class AnalysisError(ValueError):
    """A run, a model or a photo that cannot be used; the message is one line that says what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
