"""The error of the analysis commands, and the first line of any error's message."""


class AnalysisError(ValueError):
    """A run, model or photo is unusable; the message is one line that says what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
