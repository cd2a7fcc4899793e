"""The run folder: lock, run.json and trial records, and the displays of a run.

`search.records.console`, `.tensorboard` and `.prometheus` import rich, torch or Ray and are imported from there.
"""

from search.records.run_dir import RunDirError
from search.records.run_state import RunState
from search.records.trials import TrialRecord, TrialTable

__all__ = ["RunDirError", "RunState", "TrialRecord", "TrialTable"]
