"""What a killed run is resumed from, on records and checkpoints made up for the test."""

import pytest
import torch

from data.data_module import DataModule
from search.config.recipes import build_recipe
from search.config.stages import build_stages
from search.records.run_dir import claim
from search.records.run_state import RunState
from search.records.trials import TrialTable
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.trainable import STATE_FILE
from search.tuning.resume import resume_trials
from tests.trials import make_record


@pytest.fixture
def table(tmp_path):
    with claim(tmp_path):
        pass
    return TrialTable(tmp_path)


def begin(table, trial_id, *, epochs=0, last=False, **config):
    flat = build_recipe("quick_unet").flatten() | config
    table.start(make_record(trial_id, config=flat))
    for epoch in range(1, epochs + 1):
        report = {"epochs": epoch, "score": epoch / 10, "last": last and epoch == epochs}
        table.report(trial_id, report)


def save(folder, trial_id, epoch):
    path = folder / "ray" / "1" / f"{trial_id}_x" / f"checkpoint_{epoch:06d}"
    path.mkdir(parents=True)
    torch.save({"best": {}, "epoch": epoch, "optimizer": {}}, path / STATE_FILE)


def restore(table, dataset):
    """Return the store, the lines that were printed, and the data module after restoring."""
    run_state = RunState(folder=table.folder, options={}, began=0.0)
    run_state.earlier_s = 71.0
    run_state.stages = [{"name": "explore", "px": 32, "train_images": 8, "val_images": 4}]
    checkpoints, lines, data_module = CheckpointStore(table.folder / "ray", seed=0), [], DataModule(dataset, seed=0)
    resume_trials(build_stages(), run_state, table, checkpoints, data_module, lines.append)
    return checkpoints, lines, data_module


def test_trial_whose_last_report_arrived_is_finished_and_others_go_back_to_their_checkpoint(table, tiny_dataset):
    begin(table, "e0001", epochs=2, last=True)
    begin(table, "e0002", epochs=3)
    begin(table, "e0003", epochs=1)
    save(table.folder, "e0001", 2)
    save(table.folder, "e0002", 2)
    checkpoints, lines, data_module = restore(table, tiny_dataset)
    assert table.records["e0001"].status == "completed" and not table.records["e0002"].status
    assert table.records["e0002"].metrics["epochs"] == 2 and table.records["e0003"].metrics == {}
    assert set(checkpoints) == {"e0001", "e0002"}
    assert lines[-1].startswith("continues after 71s") and "trials ended: 1, unfinished: 2" in lines[-1]
    assert len(data_module.reference.train) == 8 and len(data_module.reference.val) == 4


def test_lines_that_a_power_failure_left_without_their_trial_are_left_out_and_counted(table, tiny_dataset):
    begin(table, "e0001", epochs=1)
    begin(table, "e0002", epochs=2)
    table.finish("e0002", "stopped")
    save(table.folder, "e0002", 2)
    path = table.folder / "trials.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + bytes(512))
    for name in ("reports.jsonl", "study.journal"):
        with (table.folder / name).open("ab") as file:
            file.write(bytes(512))
    loaded = TrialTable.load(table.folder)
    assert list(loaded.records) == ["e0001"] and loaded.orphans == 2
    checkpoints, lines, _ = restore(loaded, tiny_dataset)
    assert not checkpoints and not list(table.folder.glob("ray/*/*/checkpoint_*"))
    assert lines[0].startswith("ignored 2 lines of trials missing from trials.jsonl")
    begin(loaded, "e0002", epochs=1)
    loaded.finish("e0002", "completed")
    again = TrialTable.load(table.folder)
    assert again.records["e0002"].metrics["epochs"] == 1 and again.orphans == 0


def test_trial_whose_end_was_lost_after_its_checkpoint_was_reduced_is_not_trained_again(table, tiny_dataset):
    begin(table, "e0001", epochs=2)
    save(table.folder, "e0001", 2)
    path = next(table.folder.rglob(STATE_FILE))
    torch.save({"best": {}, "epoch": 2}, path)
    checkpoints, lines, _ = restore(table, tiny_dataset)
    assert table.records["e0001"].status == "stopped" and list(checkpoints) == ["e0001"]
    assert "unfinished: 0" in lines[-1]


def test_damaged_journal_is_cut_with_a_copy_and_reported(table, tiny_dataset):
    path = table.folder / "study.journal"
    path.write_bytes(b'{"op_code": 0}\n' + bytes(40) + b'\n{"op_code": 1}\n')
    assert "its last 2 lines are replaced" in restore(table, tiny_dataset)[1][0]
    assert path.read_bytes() == b'{"op_code": 0}\n' and len((table.folder / "study.journal.damaged").read_bytes()) > 60
    assert len(restore(table, tiny_dataset)[1]) == 1


def test_trial_that_this_version_cannot_read_is_failed_with_the_reason(table, tiny_dataset):
    begin(table, "e0001", **{"model/mood": "fair"})
    _, lines, _ = restore(table, tiny_dataset)
    assert table.records["e0001"].status == "failed" and "mood" in table.records["e0001"].reason
    assert "e0001 is left out" in lines[0]
