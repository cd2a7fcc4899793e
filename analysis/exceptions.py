"""The error of the analysis commands."""


class AnalysisError(ValueError):
    """A run, model or photo is unusable; the message is one line that says what to do."""
