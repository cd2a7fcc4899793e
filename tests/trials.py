"""Records of trials for tests, written as a search writes them."""

from typing import Any

from search.records.trials import TrialRecord, TrialTable

STAGES = {"e": "explore", "c": "confirm", "f": "final", "r": "repeat"}


def make_record(trial_id: str, **fields: Any) -> TrialRecord:
    """Return the record of a trial of the stage that its id names, without parent and config unless they are given."""
    usual: dict[str, Any] = {"stage": STAGES[trial_id[0]], "parent_id": "", "seed": 0, "config": {}}
    return TrialRecord(trial_id=trial_id, **usual | fields)


def add_trial(
    table: TrialTable, record: TrialRecord, *, status: str = "completed", reason: str = "", **metrics: Any
) -> None:
    """Let a trial start, report the metrics if there are any, and end."""
    table.start(record)
    if metrics:
        table.report(record.trial_id, metrics)
    table.finish(record.trial_id, status, reason)
