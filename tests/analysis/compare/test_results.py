import json

import pytest

from analysis.compare.results import main, table
from search.records.files import write_json
from search.records.trials import TrialRecord, TrialTable


@pytest.fixture
def run(tmp_path):
    records = TrialTable(tmp_path)
    config = {"model/arch": "unet", "model/width": 4}
    for trial_id, stage in (("e0001", "explore"), ("f0001", "final"), ("e0002", "explore"), ("e0003", "explore")):
        records.start(TrialRecord(trial_id=trial_id, parent_id="", stage=stage, seed=0, config=config))
        records.report(trial_id, {"score": 0.5, "params": 1234})
        records.finish(trial_id, "completed")
    rounds = [{"name": "explore", "wall_s": wall_s, "busy": busy} for wall_s, busy in ((30.0, 0.9), (10.0, 0.8))]
    stages = [rounds[0], {"name": "final", "wall_s": 30.0, "busy": 0.1}, rounds[1]]
    notes = {"best": "f0001", "budget": "5m+2m", "wall_s": 299.2, "data": {"folder": "a/set"}, "seed": 0}
    write_json(tmp_path / "run.json", notes | {"stages": stages, "asked": {}})
    (tmp_path / "best").mkdir()
    part = {"images": 400, "iou": 0.5, "rmse_depth": 0.1, "score": 0.5625}
    (tmp_path / "best" / "metrics.json").write_text(
        json.dumps({"trial_id": "f0001", "px": 160, "val": part, "test": part})
    )
    return tmp_path


def test_table_has_a_row_per_part_read_from_the_run(run):
    lines = table([run]).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| set | 5m+2m | 299 | 3 | 88% | unet w4 | 1,234 | val | 400 | 0.500 | 0.100 | 0.562 |"
    assert "| test |" in lines[3]


@pytest.mark.parametrize(
    ("figure", "cells"), [("iou", "| - | 0.100 | 0.562 |"), ("rmse_depth", "| 0.500 | - | 0.562 |")]
)
def test_figure_of_what_is_not_known_is_a_dash(run, figure, cells):
    path = run / "best" / "metrics.json"
    path.write_text(path.read_text().replace(figure, "other"))
    assert table([run]).splitlines()[2].endswith(cells)


def test_run_without_a_model_is_one_line(run, capsys, monkeypatch):
    (run / "best" / "metrics.json").unlink()
    monkeypatch.setattr("sys.argv", ["results", str(run)])
    assert main() == 2 and "not a run that has ended with a model" in capsys.readouterr().err
