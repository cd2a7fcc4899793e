"""Recording: affordable configurations, every stage of each, resumed where it stopped, one small table."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from analysis.benchmarks import record_curves
from search.config import TrialConfig
from search.ladder import Stage
from search.records import append_line, read_lines


@pytest.fixture
def small_config():
    """A network of a few thousand parameters."""
    fields = {"arch": "unet", "width": 4, "stem_stride": 4, "levels": 3, "block": "plain"}
    return TrialConfig.from_dict({"model": fields, "optim": {"batch_size": 4}})


@pytest.fixture
def small(monkeypatch):
    """Make the ladder as small as the tiny data set."""
    stages = [replace(stage, px=48, epochs=2) for stage in record_curves.STAGES]
    monkeypatch.setattr(record_curves, "STAGES", tuple(stages))
    monkeypatch.setattr(record_curves, "IMAGES", {"explore": 8, "confirm": 16, "final": 16, "flat": 16})


def line(number, *, arch="unet", scores=(0.1, 0.2)):
    fields = {"arch": arch, "width": 4, "stem_stride": 4}
    config = TrialConfig.from_dict({"model": fields | ({"levels": 3} if arch == "unet" else {})})
    rows = [
        {"stage": stage.name, "epoch": epoch, "score": score, "cpu_s": 0.5}
        for stage in record_curves.STAGES
        for epoch, score in enumerate(scores, start=1)
    ]
    return {"config": number, "params": 10, "macs": 20, "flat": config.flat(), "rows": rows}


def test_what_is_drawn_is_affordable_and_begins_with_recipes():
    configs = record_curves.draw(12, seed=0)
    assert all(record_curves.affordable(config) for config in configs)
    assert configs == record_curves.draw(12, seed=0) != record_curves.draw(12, seed=1)
    assert configs[0] == record_curves.draw(12, seed=1)[0]  # a starter: the recipes do not depend on the seed
    wide = replace(configs[0], model=replace(configs[0].model, width=64))
    assert record_curves.excess(wide) > 0 and not record_curves.affordable(wide)


def test_every_stage_is_recorded_with_its_costs(small, tiny_dataset, small_config):
    found = record_curves.record(3, small_config, record_curves.supplied(tiny_dataset, seed=0))
    stages = [(row["stage"], row["epoch"]) for row in found["rows"]]
    assert stages == [(name, epoch) for name in ("explore", "confirm", "final", "flat") for epoch in (1, 2)]
    assert all(row["cpu_s"] > 0 for row in found["rows"]) and found["config"] == 3
    assert TrialConfig.from_flat(found["flat"]) == small_config


def test_a_training_that_diverges_ends_the_climb_but_not_the_one_from_scratch(monkeypatch, small_config):
    def fit(config, data, plan, *, report, weights):
        report({"epoch": 1, "score": 0.1}, None)
        raise record_curves.TrialDiverged.__new__(record_curves.TrialDiverged)

    monkeypatch.setattr(record_curves, "fit", fit)
    found = record_curves.record(0, small_config, {stage.name: None for stage in record_curves.STAGES})
    assert [(row["stage"], row["epoch"], row["score"]) for row in found["rows"]] == [
        ("explore", 1, 0.1),
        ("explore", 2, None),
        ("flat", 1, 0.1),
        ("flat", 2, None),
    ]


def test_confirm_goes_on_from_the_weights_of_explore(monkeypatch, small_config):
    began = []

    class Network:
        def __init__(self, name):
            self.name = name

        def state_dict(self):
            return self.name

    def fit(config, data, plan, *, report, weights):
        began.append(weights)
        return Network(data)

    monkeypatch.setattr(record_curves, "fit", fit)
    record_curves.record(0, small_config, {stage.name: stage.name for stage in record_curves.STAGES})
    assert began == [None, "explore", "confirm", None]


def test_table_keeps_whole_numbers_whole_and_fits_the_repository(tmp_path):
    lines = [line(1), line(0, arch="residual", scores=(0.1, None))]
    frame = record_curves.table(lines)
    assert list(frame["config"].drop_duplicates()) == [0, 1] and len(frame) == 16
    frame.to_parquet(tmp_path / "t.parquet", compression="zstd", index=False)
    back = pd.read_parquet(tmp_path / "t.parquet")
    assert back["score"].isna().sum() == 4 and str(back["model/levels"].dtype) == "Int64"


class Pool:
    """Stands in for the processes."""

    def __init__(self, *_, **__):
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def submit(self, function, number, config, data):
        self.asked.append(number)
        return line(number)

    def shutdown(self, **_):
        pass


def test_recording_goes_on_where_it_stopped_and_refuses_another(monkeypatch, tmp_path, small_config):
    class Done(dict):
        def result(self):
            return dict(self)

    monkeypatch.setattr(Pool, "submit", lambda self, f, number, config, data: Done(line(number)))
    monkeypatch.setattr(record_curves, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(record_curves, "as_completed", list)
    path = tmp_path / "new" / "c.jsonl"
    args = {"about": {"seed": 0}, "workers": 2}
    assert list(record_curves.record_all([small_config] * 2, {}, path, **args)) == [0, 1, 2]
    assert list(record_curves.record_all([small_config] * 3, {}, path, **args)) == [2, 3]
    assert [found.get("config") for found in read_lines(path)] == [None, 0, 1, 2]
    with pytest.raises(record_curves.AnalysisError, match="another recording"):
        list(record_curves.record_all([small_config], {}, path, about={"seed": 1}, workers=2))


def test_command_writes_a_table_of_what_is_recorded(monkeypatch, tmp_path, small_config):
    out, stages = tmp_path / "c.parquet", record_curves.STAGES
    about = {stage.name: [stage.px, stage.epochs, record_curves.IMAGES[stage.name]] for stage in stages}
    append_line(
        tmp_path / "c.parquet.jsonl", {"data": "d", "seed": 0, "stages": about, "most_macs": record_curves.MOST_MACS}
    )
    for number in range(3):
        append_line(tmp_path / "c.parquet.jsonl", line(number))
    monkeypatch.setattr(record_curves, "supplied", lambda *_, **__: {})
    monkeypatch.setattr(record_curves, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(record_curves, "draw", lambda count, seed: [small_config] * count)
    assert record_curves.main(["--data", "d", "--out", str(out), "--configs", "2"]) == 0
    assert set(pd.read_parquet(out)["config"]) == {0, 1}


def test_mistakes_are_one_line(tmp_path, capsys):
    assert record_curves.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "o.parquet")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and not (tmp_path / "o.parquet").exists()
    with pytest.raises(SystemExit) as stopped:
        record_curves.parser().parse_args(["--data", "d", "--out", "o", "--configs", "0"])
    assert stopped.value.code == 2


def test_too_few_images_are_said(tiny_dataset):
    with pytest.raises(record_curves.DataError, match="training images"):
        record_curves.supplied(tiny_dataset, seed=0)


def test_stages_are_those_of_the_ladder():
    from search.ladder import ladder

    names = [stage.name for stage in ladder("climb") if not stage.repeats]
    assert [stage.name for stage in record_curves.STAGES][:3] == names
    assert all(isinstance(stage, Stage) for stage in record_curves.STAGES) and json.dumps(record_curves.IMAGES)
