import csv
import json

from search.records.trials import TrialTable, write_csv
from tests.trials import make_record


def started(table, number, **config):
    record = make_record(f"e{number:04d}", seed=7, config=config)
    table.start(record)
    return record


def rows(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_reports_are_appended_as_they_happen(tmp_path):
    table = TrialTable(tmp_path)
    started(table, 1)
    table.report("e0001", {"epochs": 1, "score": 0.1})
    table.report("e0001", {"epochs": 2, "score": 0.2})
    lines = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    assert [(line["trial_id"], line["epochs"], line["score"]) for line in lines] == [
        ("e0001", 1, 0.1),
        ("e0001", 2, 0.2),
    ]


def test_table_has_a_row_per_ended_trial_with_its_config(tmp_path):
    table = TrialTable(tmp_path)
    started(table, 1, **{"model/arch": "unet", "model/dilations": [1, 2]})
    started(table, 2, **{"model/arch": "atrous", "optim/lr": 0.5})
    table.report("e0001", {"score": 0.5, "last": True, "out_of_time": False})
    table.finish("e0001", "completed")
    assert [row["trial_id"] for row in rows(tmp_path)] == ["e0001"]
    table.finish("e0002", "failed", "loss is nan in epoch 1")
    table.write()
    first, second = rows(tmp_path)
    assert first["score"] == "0.5" and first["seed"] == "7" and json.loads(first["model/dilations"]) == [1, 2]
    assert second["status"] == "failed" and second["reason"] == "loss is nan in epoch 1" and second["optim/lr"] == "0.5"
    assert not {"last", "out_of_time"} & first.keys()  # status and reason say so
    assert list(first)[:5] == ["trial_id", "parent_id", "stage", "status", "reason"]


def test_table_is_written_in_a_hundredth_of_the_time_and_at_the_end(tmp_path, clock, monkeypatch):
    def write_slowly(path, rows):
        clock.now += 0.5
        write_csv(path, rows)

    monkeypatch.setattr("search.records.trials.write_csv", write_slowly)
    table, written = TrialTable(tmp_path), []
    for number in range(1, 6):
        started(table, number)
        table.finish(f"e{number:04d}", "completed")
        written.append(len(rows(tmp_path)))
        clock.now += 24.0
    assert written == [1, 1, 1, 4, 4]  # half a second, then fifty
    table.write()
    assert len(rows(tmp_path)) == 5
    (tmp_path / "trials.csv").unlink()
    table.write()  # it has all trials
    assert not (tmp_path / "trials.csv").exists()


def test_table_of_a_killed_run_is_loaded_with_what_was_running(tmp_path):
    table = TrialTable(tmp_path)
    for number in (1, 2):
        started(table, number, **{"model/arch": "unet", "model/dilations": [1, 2]})
        table.report(f"e000{number}", {"epochs": 1, "score": 0.1})
    table.finish("e0001", "stopped", "below")
    with (tmp_path / "reports.jsonl").open("a") as file:
        file.write('{"trial_id": "e0002", "sta')  # the line it was writing
    loaded = TrialTable.load(tmp_path)
    assert loaded.records == table.records
    assert [r.trial_id for r in loaded.list_ended("explore")] == ["e0001"]
    assert [r.trial_id for r in loaded.list_begun("explore")] == ["e0001", "e0002"]
    loaded.report("e0002", {"epochs": 2, "score": 0.2})
    assert TrialTable.load(tmp_path).records["e0002"].score == 0.2


def test_reports_behind_a_checkpoint_are_forgotten(tmp_path):
    table = TrialTable(tmp_path)
    for number in (1, 2, 3):
        started(table, number)
        for epochs in (1, 2, 3):
            table.report(f"e000{number}", {"epochs": epochs, "score": epochs / 10})
    table.rewind({"e0001": 2, "e0002": 0})
    assert [table.records[f"e000{n}"].metrics.get("epochs") for n in (1, 2, 3)] == [2, None, 3]
    lines = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    assert [(line["trial_id"], line["epochs"]) for line in lines] == [
        *(("e0001", n) for n in (1, 2)),
        *(("e0003", n) for n in (1, 2, 3)),
    ]


def test_row_of_a_trial_has_the_metrics_of_its_best_epoch_also_after_a_resume(tmp_path):
    table = TrialTable(tmp_path)
    started(table, 1)
    best = {"score": 0.5, "best_epoch": 1}
    table.report("e0001", {"epochs": 1, "score": 0.5, "train_total": 0.4, "best": best})
    table.report("e0001", {"epochs": 2, "score": 0.3, "train_total": 0.2, "best": best})
    assert table.records["e0001"].metrics == {"epochs": 2, "score": 0.5, "train_total": 0.2, "best_epoch": 1}
    assert TrialTable.load(tmp_path).records == table.records
    lines = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == [0.5, 0.3]
    table.finish("e0001", "completed")
    assert (rows(tmp_path)[0]["score"], rows(tmp_path)[0]["epochs"]) == ("0.5", "2")


def test_csv_columns_are_the_union(tmp_path):
    write_csv(tmp_path / "t.csv", [{"a": 1}, {"b": 2}])
    assert (tmp_path / "t.csv").read_text().split() == ["a,b", "1,", ",2"]
