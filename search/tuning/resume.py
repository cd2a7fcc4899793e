"""Resume the trials of a run that was interrupted: records, checkpoints and the scale of the score."""

from collections.abc import Callable, Sequence

from data.data_module import DataModule
from models.config import ConfigError
from search.config.stages import Stage
from search.config.trial import TrialConfig
from search.records.run_state import RunState
from search.records.trials import TrialTable
from search.study.journal import repair_journal
from search.tuning.ray.checkpoints import CheckpointStore, find_checkpoints, is_reduced
from search.tuning.ray.trial_spec import load_state, read_outcome


def resume_trials(
    stages: Sequence[Stage],
    run_state: RunState,
    table: TrialTable,
    checkpoints: CheckpointStore,
    data_module: DataModule,
    report: Callable[[str], None],
) -> None:
    """Restore the state left by the earlier processes of a run; `report` prints a line.

    Trials whose last report arrived are finished; unfinished ones go back to their checkpoint. `checkpoints` is filled
    with the checkpoints still needed; all others are deleted. `data_module` gets the data of the first stage, whose
    statistics and sigma hold for the whole run.
    """
    for record in [r for r in table.records.values() if not r.status and r.metrics.get("last")]:
        table.finish(record.trial_id, *read_outcome(record.metrics, record.metrics))
    _fail_unreadable(table, report)
    unfinished = {i: r.metrics.get("epochs", 0) for i, r in table.records.items() if not r.status}
    found = find_checkpoints(checkpoints.place, unfinished)
    states = {trial_id: load_state(found.get(trial_id)) for trial_id in unfinished}
    for trial_id in [i for i, state in states.items() if is_reduced(state)]:
        del states[trial_id]  # a power failure lost the line that records its end
        table.finish(trial_id, *read_outcome({}, {}))
    for trial_id, checkpoint in found.items():
        if trial_id in table.records and table.records[trial_id].status != "failed":
            checkpoints.put(trial_id, checkpoint)
    for stage in stages:
        checkpoints.sweep(stage.name, table.list_ended(stage.name))
    checkpoints.delete_others()
    table.rewind({trial_id: state["epoch"] if state else 0 for trial_id, state in states.items()})
    if run_state.stages:
        first = run_state.stages[0]
        sizes = first["px"], first["train_images"], first["val_images"]
        data_module.reference = data_module.load_recorded_data(*sizes)
    _repair(table, report)
    ended = sum(bool(record.status) for record in table.records.values())
    report(f"continues after {run_state.earlier_s:.0f}s; trials ended: {ended}, unfinished: {len(states)}")


def _repair(table: TrialTable, report: Callable[[str], None]) -> None:
    """Report files damaged by a power failure; the searcher adds the trials that the journal has lost."""
    if table.orphans:
        report(f"ignored {table.orphans} lines of trials missing from trials.jsonl, as after a power failure")
    if lost := repair_journal(table.folder / "study.journal"):
        report(f"study.journal is damaged: its last {lost} lines are replaced by the trials of trials.jsonl")


def _fail_unreadable(table: TrialTable, report: Callable[[str], None]) -> None:
    """Record trials as failed whose configuration this version cannot read."""
    for record in [r for r in table.records.values() if r.status != "failed"]:
        try:
            TrialConfig.from_flat(record.config)
        except ConfigError as error:
            report(f"  {record.trial_id} is left out: {error}")
            table.finish(record.trial_id, "failed", f"not readable by this version: {error}")
