"""Checkpoints on disk: those of the best trials, reduced to their weights."""

import os
import random
import time
from pathlib import Path

import pytest
import torch
from ray.tune import Checkpoint

from data.runtime.storage import open_place
from search.config.stages import STAGE_PRESETS
from search.tuning.promotion import KEPT_CHECKPOINTS, promote, rank_trials, select_checkpoints
from search.tuning.ray.checkpoints import CheckpointStore, find_checkpoints
from search.tuning.ray.trainable import STATE_FILE
from search.tuning.ray.trial_spec import load_state
from tests.trials import make_record

CONFIRM = STAGE_PRESETS["default"][1]


def record(number, score, status="completed", params=100):
    return make_record(f"e{number:04d}", status=status, metrics={"score": score, "params": params})


def saved(folder, trial_id):
    """Write a checkpoint as a trial does while it trains."""
    path = folder / f"{trial_id}_unet" / "checkpoint_000003"
    path.mkdir(parents=True)
    best = {"metrics": {"score": 0.5}, "weights": {"weight": torch.ones(100)}}
    state = {"model": {"weight": torch.zeros(100)}, "best": best, "optimizer": {"moments": torch.ones(200)}, "epoch": 3}
    torch.save(state, path / STATE_FILE)
    return Checkpoint.from_directory(str(path))


def ended(folder, records, *, seed=0):
    """Let trials end one after the other; return the store."""
    checkpoints = CheckpointStore(folder, seed=seed)
    for one in records:
        checkpoints.put(one.trial_id, saved(folder, one.trial_id))
        checkpoints.finish(one)
    return checkpoints


def on_disk(folder):
    return {path.parents[1].name.partition("_")[0] for path in folder.glob(f"*/*/{STATE_FILE}")}


@pytest.fixture
def sixty(tmp_path):
    draw = random.Random(0)
    records = [record(i, draw.random(), params=draw.choice([10, 20, 30])) for i in range(60)]
    return records, ended(tmp_path, records), tmp_path


def test_weights_of_the_top_are_kept_and_other_folders_are_gone(sixty):
    records, checkpoints, folder = sixty
    assert on_disk(folder) == set(checkpoints) and KEPT_CHECKPOINTS < len(checkpoints) <= 2 * KEPT_CHECKPOINTS + 1
    assert {r.trial_id for r in rank_trials(records)[:KEPT_CHECKPOINTS]} <= set(checkpoints)


def test_of_many_trials_few_are_compared_with_the_next_and_the_same_are_kept(sixty, monkeypatch):
    records, checkpoints, _ = sixty
    assert set(checkpoints) == select_checkpoints(records, seed=0)
    compared = []
    monkeypatch.setattr(
        "search.tuning.ray.checkpoints.select_checkpoints",
        lambda records, **options: compared.append(len(records)) or select_checkpoints(records, **options),
    )
    checkpoints.finish(record(60, 0.1))
    assert compared == [len(select_checkpoints(records, seed=0)) + 1]


def test_trials_that_may_be_promoted_have_weights(sixty):
    records, checkpoints, _ = sixty
    chosen = promote(records, CONFIRM, seed=0)
    assert len(chosen) == 4
    for r in chosen:
        assert load_state(checkpoints[r.trial_id])["epoch"] == 3


def test_state_of_an_ended_trial_is_reduced_to_its_weights(tmp_path):
    checkpoints = ended(tmp_path, [record(1, 0.5)])
    path = Path(checkpoints["e0001"].path) / STATE_FILE
    state = load_state(checkpoints["e0001"])
    assert set(state) == {"best", "epoch"} and torch.equal(state["best"]["weights"]["weight"], torch.ones(100))
    assert [p.name for p in path.parent.iterdir()] == [STATE_FILE]
    checkpoints.finish(record(1, 0.5))  # a second time there is nothing to drop
    assert set(load_state(checkpoints["e0001"])) == {"best", "epoch"}


def test_failed_trial_leaves_nothing(tmp_path):
    checkpoints = ended(tmp_path, [record(1, 0.5), record(2, 0.9, "failed"), record(3, float("nan"))])
    assert set(checkpoints) == {"e0001"} == on_disk(tmp_path)


def test_trial_may_end_without_a_checkpoint(tmp_path):
    checkpoints = CheckpointStore(tmp_path, seed=0)
    checkpoints.finish(record(1, 0.5))
    assert not checkpoints and "e0001" not in checkpoints


def test_trials_that_still_run_keep_all_of_theirs(sixty):
    records, checkpoints, folder = sixty
    checkpoints.put("e0099", saved(folder, "e0099"))
    checkpoints.sweep("explore", records)
    assert "optimizer" in load_state(checkpoints["e0099"])


def test_checkpoints_that_a_killed_process_did_not_delete_are_swept(tmp_path):
    checkpoints, records = CheckpointStore(tmp_path, seed=0), [record(i, i / 100) for i in range(40)]
    for r in records:
        checkpoints.put(r.trial_id, saved(tmp_path, r.trial_id))
    checkpoints.sweep("explore", records)
    assert on_disk(tmp_path) == set(checkpoints) and len(checkpoints) <= 2 * KEPT_CHECKPOINTS + 1
    assert {f"e{i:04d}" for i in range(32, 40)} <= set(checkpoints)


def test_last_checkpoint_of_every_trial_is_found_whichever_process_wrote_it(tmp_path):
    def save(process, trial_id, number, *, age, whole=True):
        path = tmp_path / process / f"{trial_id}_unet" / f"checkpoint_{number:06d}" / STATE_FILE
        path.parent.mkdir(parents=True)
        torch.save({"epoch": number + 1}, path)
        path.write_bytes(path.read_bytes()[: None if whole else -30])
        os.utime(path, (age, age))

    save("1", "e0001", 0, age=0)
    save("2", "e0001", 0, age=3)
    save("1", "e0002", 3, age=1)
    save("2", "e0002", 4, age=4, whole=False)  # killed while it was written
    save("2", "e0003", 0, age=5)
    save("2", "e0003", 1, age=6)  # killed before it was reported
    save("2", "e0004", 0, age=6)
    (tmp_path / "1" / "e0005_unet").mkdir()
    found = find_checkpoints(open_place(tmp_path), {"e0003": 1, "e0004": 0})
    places = {trial_id: Path(checkpoint.path).relative_to(tmp_path).parts for trial_id, checkpoint in found.items()}
    assert {trial_id: (place[0], place[2][-1]) for trial_id, place in places.items()} == {
        "e0001": ("2", "0"),
        "e0002": ("1", "3"),
        "e0003": ("2", "0"),
    }


def test_weights_that_were_half_written_when_the_process_was_killed_are_ignored(tmp_path):
    checkpoints = ended(tmp_path / "1", [record(1, 0.5)])
    folder = Path(checkpoints["e0001"].path)
    (folder / f"{STATE_FILE}.partial").write_bytes(b"half")
    found = find_checkpoints(open_place(tmp_path), {})
    assert load_state(found["e0001"])["epoch"] == 3
    checkpoints.put("e0001", found["e0001"])
    checkpoints.finish(record(1, 0.5))
    assert set(load_state(checkpoints["e0001"])) == {"best", "epoch"}


def test_trial_whose_worker_died_recovers_its_last_reported_state_and_nothing_else_stays(tmp_path):
    for process, folder, epoch in (
        (1, "e0001_unet", 1),
        (2, "e0001_unet", 2),
        (2, "e0001_unet_1", 4),
        (2, "e0002_x", 1),
    ):
        path = tmp_path / str(process) / folder / f"checkpoint_{epoch:06d}"
        path.mkdir(parents=True)
        torch.save({"best": {}, "optimizer": {}, "epoch": epoch}, path / STATE_FILE)
    broken = tmp_path / "2" / "e0001_unet" / "checkpoint_000003"
    broken.mkdir()
    (broken / STATE_FILE).write_bytes(b"half a file")
    checkpoints = CheckpointStore(tmp_path, seed=0)
    assert checkpoints.recover("e0001", 3)["epoch"] == 2  # epoch 4 was not reported
    assert {path.parent.name for path in tmp_path.glob("*/*/checkpoint_*")} == {"e0001_unet", "e0002_x"}
    assert list(checkpoints) == ["e0001"] and len(list(tmp_path.glob("*/e0001*/checkpoint_*"))) == 1
    checkpoints.put("e0003", Checkpoint.from_directory(str(tmp_path / "2" / "gone")))
    assert checkpoints.recover("e0003", 3) is None and "e0003" not in checkpoints


def test_state_is_recovered_after_an_outage_of_the_storage(tmp_path, monkeypatch):
    saved(tmp_path, "e0001")
    checkpoints = CheckpointStore(f"file://{tmp_path}", seed=0)
    answers, find = iter([OSError("no answer")]), find_checkpoints

    def find_later(*args, **options):
        for error in answers:
            raise error
        return find(*args, **options)

    monkeypatch.setattr("search.tuning.ray.checkpoints.find_checkpoints", find_later)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert checkpoints.recover("e0001", 3)["epoch"] == 3
