import json

import pytest

from analysis.results import table
from search.records import TrialRecord, TrialTable, write_json


@pytest.fixture
def run(tmp_path):
    records = TrialTable(tmp_path)
    config = {"model/arch": "unet", "model/width": 4}
    records.start(TrialRecord(trial_id="f0001", parent_id="c0001", stage="final", seed=0, config=config))
    records.report("f0001", {"score": 0.5, "params": 1234})
    records.finish("f0001", "completed")
    stages = [{"trials": 40, "busy": 0.875}]
    write_json(
        tmp_path / "run.json",
        {"best": "f0001", "budget": "5m", "wall_s": 299.2, "data": {"folder": "a/set"}, "stages": stages},
    )
    (tmp_path / "best").mkdir()
    part = {"images": 400, "iou": 0.5, "rmse_depth": 0.1, "score": 0.5625}
    (tmp_path / "best" / "metrics.json").write_text(json.dumps({"val": part, "test": part}))
    return tmp_path


def test_table_has_a_row_per_part_read_from_the_run(run):
    lines = table([run]).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| set | 5m | 299 | 40 | 88% | unet, width 4 | 1,234 | val | 400 | 0.500 | 0.100 | 0.562 |"
    assert "| test |" in lines[3]


@pytest.mark.parametrize(
    ("figure", "cells"), [("iou", "| - | 0.100 | 0.562 |"), ("rmse_depth", "| 0.500 | - | 0.562 |")]
)
def test_figure_of_what_is_not_known_is_a_dash(run, figure, cells):
    path = run / "best" / "metrics.json"
    path.write_text(path.read_text().replace(figure, "other"))
    assert table([run]).splitlines()[2].endswith(cells)
