"""The run folder: its lock, run.json, the trial records, and the displays fed from them.

`search.records.console`, `search.records.tensorboard` and `search.records.prometheus` import rich, numpy or Ray and are
imported from there.
"""

from search.records.run_dir import RunDirError, check_free, claim, hold, is_claimed
from search.records.run_state import RunState, create_run_state, read_run_json, resume_run_state
from search.records.trials import TrialRecord, TrialTable

__all__ = [
    "RunDirError",
    "RunState",
    "TrialRecord",
    "TrialTable",
    "check_free",
    "claim",
    "create_run_state",
    "hold",
    "is_claimed",
    "read_run_json",
    "resume_run_state",
]
