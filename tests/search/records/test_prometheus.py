"""What the gauges say of a run's records; Ray's own are replaced, none is started."""

import json
import re
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from search.records import prometheus as gauges
from search.records.prometheus import GAUGES, PrometheusExporter
from search.records.trials import STATUSES, TrialTable
from tests.trials import make_record
from tests.waiting import wait_until

DASHBOARD = Path(__file__).resolve().parents[3] / "analysis" / "assets" / "grafana.json"


def record(number, status="", stage="explore", **metrics):
    return make_record(f"{stage[0]}{number:04d}", status=status, metrics=metrics)


@pytest.fixture
def run(tmp_path):
    """Gauges of a run with trials of every kind."""
    table = TrialTable(tmp_path)
    for one in (
        record(1, "completed", score=0.4, images_seen=900, fit_s=3.0),
        record(2, "failed", score=0.9),
        record(3, score=0.5, images_seen=100, fit_s=2.0),
        record(4, score=0.3, images_seen=100, fit_s=4.0),
        record(5),
        record(1, "completed", "confirm", score=0.8, images_seen=10, fit_s=1.0),
    ):
        table.records[one.trial_id] = one
    return PrometheusExporter("one", table, lambda: 0.25)


def told(run):
    return {(name, *tags.values()): value for name, value, tags in run.values()}


def test_best_score_is_of_its_stage_and_of_no_failed_trial(run):
    assert told(run)["one_look_best_score", "explore"] == 0.5
    assert told(run)["one_look_best_score", "confirm"] == 0.8


def test_stage_without_a_report_has_no_best_score(run):
    run.table.records["f0001"] = record(1, stage="final")
    assert ("one_look_best_score", "final") not in told(run)
    assert told(run)["one_look_trials", "final", "running"] == 1


def test_trials_are_counted_by_status_and_none_is_said_to_be_none(run):
    counts = {status: told(run)["one_look_trials", "explore", status] for status in ("running", *STATUSES)}
    assert counts == {"running": 3, "completed": 1, "stopped": 0, "failed": 1, "ended_by_budget": 0}


def test_images_a_second_are_those_of_the_running(run):
    assert told(run)[("one_look_images_per_second",)] == 50.0 + 25.0


class Gauge:
    """Remembers what it was set to, by its tags."""

    made: ClassVar[dict[str, Any]] = {}

    def __init__(self, name, description, tag_keys):
        self.keys, self.seen = tag_keys, {}
        self.made[name] = self

    def set(self, value, tags):
        assert set(tags) == set(self.keys)
        self.seen[tuple(tags.values())] = value


def test_gauges_are_set_under_the_name_of_the_run_until_they_are_stopped(run, monkeypatch):
    monkeypatch.setattr(gauges, "Gauge", Gauge)
    monkeypatch.setattr(gauges, "BEAT_S", 0.01)
    with run:
        run.table.records["e0003"].metrics["score"] = 0.75
        wait_until(
            lambda: (
                Gauge.made
                and Gauge.made["one_look_best_score"].seen.get(("one", "explore")) == 0.75
                and Gauge.made["one_look_budget_spent"].seen
            )
        )
    assert Gauge.made.keys() == GAUGES.keys()
    assert Gauge.made["one_look_best_score"].seen == {("one", "explore"): 0.75, ("one", "confirm"): 0.8}
    assert Gauge.made["one_look_budget_spent"].seen == {("one",): 0.25}
    assert not [thread for thread in threading.enumerate() if thread is run._thread]


def expressions(content):
    """Yield every query of a Grafana dashboard."""
    for panel in content["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_dashboard_of_grafana_asks_for_every_gauge_and_for_no_other():
    content = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = set(re.findall(r"\bray_(one_look_\w+)", " ".join(expressions(content))))
    assert asked == GAUGES.keys()
    keys = {key for _, keys in GAUGES.values() for key in keys} | {"run"}
    assert set(re.findall(r"(\w+)=~?\"", " ".join(expressions(content)))) <= keys


def test_run_with_an_accent_is_exported_in_ascii_and_a_failing_gauge_is_silent(tmp_path, monkeypatch, capsys):
    exporter = PrometheusExporter("versuch é", TrialTable(tmp_path), lambda: 1 / 0)
    assert exporter.run == r"versuch \xe9"
    with exporter:
        pass
    assert capsys.readouterr().err == ""
