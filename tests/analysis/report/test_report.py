import html
import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from analysis.report.__main__ import main
from analysis.report.facts import explain_best
from analysis.report.parameter_charts import (
    list_varied,
    plot_importances,
    plot_parallel_coordinates,
    plot_score_against,
    plot_score_by,
)
from analysis.report.report import write_report
from analysis.report.style import ARCHS, FAINT, SHAPES, STAGES, assign_colours
from analysis.runs.run import read_run
from models.architectures.registry import ARCHITECTURES
from search.records.run_dir import write_json
from search.records.run_state import FORMAT_VERSION
from search.records.trials import TrialTable
from tests.trials import add_trial, make_record

UNET = {"model/arch": "unet"}
HOSTILE = '</script><script>alert("x")</script>'


@pytest.fixture
def whole_run(running_run):
    """A finished run with all of its files."""
    stage = {"round": 1, "trials": 4, "busy": 0.75, "px": 80, "train_images": 10, "val_images": 5}
    explore = {"name": "explore", "began_s": 5.0, "wall_s": 40.0, **stage}
    agreed = {"value": 0.5, "low": -1.0, "high": 1.0, "chance": 0.5}
    ranks = {"rank_correlation_with_previous_stage": {"trials": 2, "spearman": agreed, "kendall": agreed}}
    notes = {
        "state": "done",
        "best": "c1",
        "command": "python search/run.py --budget 5m",
        "time": "2026-01-02T03:04:05+0000",
        "budget": "5m",
        "wall_s": 90.0,
        "device_s": {"cpu": 180.0, "gpu": 0.0},
        "stages": [explore, {**explore, "name": "confirm", "began_s": 46.0, "wall_s": 30.0, **ranks}],
        "front": [{"trial_id": "c1", "latency_ms": 2.5}, {"trial_id": "c2", "latency_ms": 2.0}],
        "versions": {"torch": "2.9"},
    }
    write_json(running_run / "run.json", notes)
    figures = {"images": 5, "score": 0.61, "iou": 0.7, "rmse_depth": 0.1, "constant_guess": {"score": 0.0, "iou": 0.0}}
    (running_run / "best").mkdir()
    write_json(running_run / "best" / "metrics.json", {"trial_id": "c1", "val": figures, "test": figures, "note": ""})
    cv2.imwrite(str(running_run / "best" / "samples.png"), np.zeros((40, 60, 3), np.uint8))
    return running_run


def page_of(run):
    return write_report(run).read_text()


def data_of(page, name):
    return json.loads(re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page, re.S)[1])


def titles(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_report_of_a_whole_run_has_every_section(whole_run):
    page = page_of(whole_run)
    assert titles(page) == [
        "The best model",
        "Best score over time",
        "Leaderboard",
        "Learning curves",
        "Ranks from stage to stage",
        "Score, size and latency",
        "How trials ended",
        "How the budget was spent",
        "Environment and command",
    ]
    for told in ("0.610", "unet w4", "2.5 ms", "data:image/jpeg;base64,", "python search/run.py --budget 5m", "2.9"):
        assert told in page
    assert "In confirm it scored 0.600, 0.050 ahead of c2 (unet w4)." in page
    assert "In explore the same configuration was number 1 of 3." in page
    assert "out of memory" in page and "rank correlation 0.50 [-1.00, 1.00]" in page


def test_page_works_offline(whole_run):
    page = page_of(whole_run)
    own = page[: page.index("plotly.js v")] + page[page.rindex('"use strict";') :]
    assert not re.search(r"""(src|href)=["'](?!data:|#|trials\.csv)""", own) and "https:" not in own
    assert "default-src 'none'" in own and "connect-src" not in own
    assert page.count("plotly.js v") == 1 and len(page) < 8_000_000


def test_leaderboard_holds_every_trial_the_largest_images_and_the_best_first(whole_run):
    board = data_of(page_of(whole_run), "rows")
    names = [column["title"] for column in board["columns"]]
    ids = [row[names.index("trial")] for row in board["rows"]]
    assert ids == ["c1", "c2", "e3", "e2", "e1", "e4"] and board["best"] == "c1"
    assert board["rows"][0][names.index("score")] == 0.6 and board["rows"][-1][names.index("score")] is None
    assert board["hover"]["c1"] == "c1 · unet w4 · confirm, completed"


def test_page_says_what_comes_next_on_what_latency_was_measured_and_saves_tables_and_charts(whole_run):
    notes = json.loads((whole_run / "run.json").read_text())
    write_json(whole_run / "run.json", {**notes, "format_version": FORMAT_VERSION, "devices": {"cpu": 2, "gpu": 0}})
    (whole_run / "best" / "model.safetensors").touch()
    page = page_of(whole_run)
    assert "<h3>What next</h3>" in page and re.search(r"More time for this run: <code>.*--budget 30m</code>", page)
    assert "one image on one thread" in page
    assert 'id="csv"' in page and 'table.download("csv"' in page and 'toImageButtonOptions: { format: "png"' in page
    for devices in ({"devices": {"cpu": 2, "gpu": 1}}, {"format_version": 3, "cluster": {"cpus": 2, "gpus": 1}}):
        write_json(whole_run / "run.json", {**notes, **devices})
        page = page_of(whole_run)
        assert "one image on the GPU" in page and "2 and 1" in page


def test_importances_are_ordered_by_what_exceeds_chance_and_the_rest_is_grey():
    columns = {"parameter": ["a", "b", "c"], "importance": [0.5, 0.3, 0.2], "chance": [0.45, 0.1, 0.25]}
    bars = plot_importances(pd.DataFrame(columns).assign(architecture="unet"), "unet").data[0]
    assert list(bars.y) == ["b", "a", "c"]
    assert list(bars.marker.color) == [ARCHS["unet"], ARCHS["unet"], FAINT]


def test_each_architecture_and_stage_has_a_colour_and_a_shape_of_its_own():
    for colours in (ARCHS, STAGES):
        assert len(set(colours.values())) == len(colours)
    assert set(ARCHS) == set(ARCHITECTURES) and set(ARCHS.values()) < set(SHAPES)
    assert set(assign_colours(["a", "b"], ARCHS).values()) == set(SHAPES)
    assert len(set(SHAPES.values())) == len(SHAPES)


def test_few_trials_of_a_stage_have_a_colour_each(running_run):
    charts = data_of(page_of(running_run), "figures")
    colours = [trace["line"]["color"] for trace in charts["curves-1"]["data"]]  # explore, three of one architecture
    assert len(colours) == len(set(colours)) == 3


@pytest.mark.parametrize(("most", "kind"), [(5000, None), (12340, "log")])
def test_axis_of_costs_is_logarithmic_if_they_span_a_decade(running_run, most, kind):
    trials = read_run(running_run).trials
    trials.loc[trials["trial_id"] == "c1", "params"] = most
    axis = plot_score_against(trials, "params").layout.xaxis
    assert (axis.type, axis.dtick) == (kind, "D2" if kind else None)


def test_every_category_of_a_parameter_is_on_its_axis(running_run):
    trials = read_run(running_run).trials.assign(**{"model/width": [4, 4, 8, 8, 16, 16]})
    assert plot_score_by(trials, "model/width").layout.xaxis.range == (-0.5, 2.5)


def test_front_is_described_as_it_is_drawn(whole_run):
    page = page_of(whole_run)
    assert "Trials of explore are drawn but not part of the front" in page
    notes = json.loads((whole_run / "run.json").read_text())
    write_json(whole_run / "run.json", {name: value for name, value in notes.items() if name != "front"})
    assert "Score and size" in titles(page_of(whole_run))


def test_reader_sees_outcomes_in_plain_words(tmp_path):
    table = TrialTable(tmp_path)
    for number in (1, 2):
        figures = {"score": 0.5, "epochs": 1, "params": 10 * number, "last": True, "px": 80}
        add_trial(table, make_record(f"e{number}", config=UNET), status="ended_by_budget", **figures)
    page = page_of(tmp_path)
    assert ">ended by budget</th>" in page and "ended_by_budget" not in re.sub(r" title=.*?>", ">", page)
    assert "explore, ended by budget" in page and "ended by budget: reached the time limit" in page


def test_text_of_a_trial_cannot_become_part_of_the_page(tmp_path):
    table = TrialTable(tmp_path)
    config = {"model/arch": HOSTILE, "model/width": 4, "loss/mask_pixel": HOSTILE}
    for number, status in enumerate(("completed", "failed"), start=1):
        figures = {"score": 0.1, "epochs": 1, "images_seen": 8, "fit_s": 1.0, "ended_s": 2.0}
        add_trial(table, make_record(f"e{number}", config=config), status=status, reason=HOSTILE, **figures)
    write_json(tmp_path / "run.json", {"state": "done", "command": HOSTILE, "best": "e1"})
    page = page_of(tmp_path)
    assert HOSTILE not in page and "<script>alert" not in page
    assert HOSTILE in data_of(page, "rows")["rows"][0]


def test_running_run_is_reported_so_far(running_run):
    page = page_of(running_run)
    assert "The best so far" in page and ">running</span>" in page
    assert "c2 · unet w4 · confirm, running" in data_of(page, "rows")["hover"].values()


def test_run_without_a_sign_of_life_is_cut_off_and_its_trials_unfinished(running_run, monkeypatch):
    monkeypatch.setattr("analysis.runs.run.SILENT_S", -1.0)
    run = read_run(running_run)
    assert run.state == "cut off" and run.trials.set_index("trial_id")["status"]["c2"] == "unfinished"
    page = page_of(running_run)
    assert ">cut off</span>" in page and f"search/run.py --resume {running_run}" in page


def test_run_of_a_single_trial_has_a_report(other_run):
    write_json(other_run / "run.json", {"state": "done", "best": "e3"})
    page = page_of(other_run)
    assert "unet w4" in page and "Learning curves" in page and "Which parameters mattered" not in page


def test_best_of_a_running_run_is_not_the_newest(tmp_path):
    table = TrialTable(tmp_path)
    for trial_id, score, px in (("e1", 0.7, 80), ("f1", 0.46, 160), ("r1", 0.39, 160)):
        add(table, trial_id, score, px=px)
    write_json(tmp_path / "run.json", {"state": "running"})
    assert read_run(tmp_path).best["trial_id"] == "f1"


def test_commands_of_the_page_can_be_pasted(tmp_path):
    run = tmp_path / "my runs [1]"
    run.mkdir()
    table = TrialTable(run)
    add(table, "e1", 0.7, px=80)
    write_json(run / "run.json", {"state": "stopped", "format_version": FORMAT_VERSION})
    page = html.unescape(write_report(run).read_text())
    assert f"search/run.py --resume '{run}'" in page and f"one-look report '{run}'" in page


@pytest.mark.parametrize(
    ("name", "content"),
    [("run.json", "[]"), ("run.json", "{"), ("trials.csv", "a,b\n1,2\n"), ("reports.jsonl", '{"epochs": 1}\n')],
)
def test_damaged_records_are_one_line(name, content, running_run, capsys):
    (running_run / name).write_text(content)
    assert main([str(running_run)]) == 2 and not (running_run / "report.html").exists()
    said = capsys.readouterr().err
    assert said.startswith(f"error: {running_run / name}: ") and said.count("\n") == 1


def test_what_the_scores_are_worth_stands_beside_the_best_model(running_run):
    content = json.loads((running_run / "run.json").read_text())
    content["data"] = {"warnings": ["1 image validates: the scores are chance"]}
    write_json(running_run / "run.json", content)
    assert main([str(running_run)]) == 0
    assert "1 image validates: the scores are chance." in (running_run / "report.html").read_text(encoding="utf-8")


def test_damaged_study_is_one_line(tmp_path, capsys):
    add(TrialTable(tmp_path), "e1", 0.7, px=80)
    write_json(tmp_path / "run.json", {"state": "stopped"})
    (tmp_path / "study.journal").write_text("half a line {\n")
    assert main([str(tmp_path)]) == 2
    assert "study.journal: a line is damaged" in capsys.readouterr().err


def test_seeds_are_reported_for_the_best_trial_only(tmp_path):
    table = TrialTable(tmp_path)
    for trial_id, score in (("f1", 0.46), ("f2", 0.5)):
        add(table, trial_id, score, px=160)
    seeds = {"trials": ["f1", "r1"], "scores": [0.46, 0.4], "mean": 0.43}
    for best, told in (("f1", True), ("f2", False)):
        write_json(tmp_path / "run.json", {"state": "done", "best": best, "seeds": seeds})
        assert any("2 seeds" in sentence for sentence in explain_best(read_run(tmp_path))) is told


def add(table, trial_id, score, *, px):
    """Let a trial report once and end."""
    figures = {"last": True, "score": score, "iou": score, "px": px, "train_images": 10, "epochs": 1}
    add_trial(table, make_record(trial_id, config=UNET), **figures)


def test_charts_of_a_long_search_show_the_best_trials_and_some_of_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.report.report.MAX_SHOWN", 20)
    monkeypatch.setattr("analysis.report.report.BEST_SHOWN", 5)
    table = TrialTable(tmp_path)
    for number in range(100):
        add(table, f"e{number:04d}", (number * 37 % 100) / 100, px=80)
    add(table, "f0001", 0.9, px=160)
    table.write()
    write_json(tmp_path / "run.json", {"state": "done", "best": "f0001"})
    page = page_of(tmp_path)
    assert "charts show 20 of 101 trials" in page and len(data_of(page, "rows")["rows"]) == 101
    traces = [trace for chart in data_of(page, "figures").values() for trace in chart["data"]]
    shown = {trial_id for trace in traces for trial_id in trace.get("customdata", [])}
    assert len(shown) == 20  # five, every seventh of the others, and the final one
    assert {f"e{number * 73 % 100:04d}" for number in range(95, 100)} | {"f0001"} <= shown  # 37 * 73 = 2701
    assert "charts show" not in page_of_run_of(tmp_path / "short", 20)


def page_of_run_of(folder, trials):
    """Return the report of a run of so many trials."""
    folder.mkdir()
    table = TrialTable(folder)
    for number in range(trials):
        add(table, f"e{number:04d}", 0.5, px=80)
    write_json(folder / "run.json", {"state": "done"})
    return page_of(folder)


def test_run_in_which_all_failed_names_the_reasons(tmp_path):
    table = TrialTable(tmp_path)
    for number in range(3):
        add_trial(table, make_record(f"e{number}", config=UNET), status="failed", reason="loss is not finite")
    write_json(tmp_path / "run.json", {"state": "failed"})
    page = page_of(tmp_path)
    assert "No trial has a score yet." in page and "loss is not finite" in page and "e0, e1, e2" in page


def test_run_that_has_not_started_a_trial_has_a_report(tmp_path):
    write_json(tmp_path / "run.json", {"state": "running", "stages": []})
    page = page_of(tmp_path)
    assert "No trial has started." in page and "plotly.js v" not in page


def test_rank_correlations_of_the_older_format_are_shown(whole_run):
    path = whole_run / "run.json"
    path.write_text(path.read_text().replace("with_previous_stage", "with_stage_below").replace('"options"', '"x"'))
    content = json.loads(path.read_text())
    write_json(path, content | {"asked": {"sampler": "tpe"}})
    assert "rank correlation 0.50 [-1.00, 1.00]" in page_of(whole_run)


def test_run_of_another_format_is_reported_without_a_command_to_resume_it(tmp_path):
    add(TrialTable(tmp_path), "e1", 0.7, px=80)
    write_json(tmp_path / "run.json", {"state": "stopped", "asked": {"sampler": "tpe", "ladder": "climb"}})
    page = page_of(tmp_path)
    assert "recorded by another version and cannot be resumed" in page and "search/run.py --resume" not in page


def test_run_of_an_older_version_has_a_report(running_run):
    (running_run / "trials.jsonl").unlink()
    columns = {"best", "last", "ended_s"}
    lines = [json.loads(line) for line in (running_run / "reports.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if name not in columns} for line in lines]
    (running_run / "reports.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert "Learning curves" in page_of(running_run)


@pytest.mark.parametrize(
    ("figure", "column", "formula"),
    [
        ("rmse_depth", "depth RMSE", "Score = IoU of the mask (no depth is known):"),
        (
            "iou",
            "IoU",
            "Score = 1 - RMSE of the depth / its standard deviation over the validation images (no mask is known):",
        ),
        ("other", "other", "Score = ½ · IoU of the mask + ½ · (1 - RMSE of the depth"),
    ],
)
def test_data_without_depth_or_masks_have_a_report(whole_run, figure, column, formula):
    for path in (whole_run / "trials.csv", whole_run / "reports.jsonl", whole_run / "best" / "metrics.json"):
        path.write_text(path.read_text().replace(figure, "unnamed"))
    page = page_of(whole_run)
    assert column not in [shown["title"] for shown in data_of(page, "rows")["columns"]] and formula in page


def test_command_writes_to_out(whole_run, tmp_path, capsys):
    assert main([str(whole_run), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 4_000_000 and not (whole_run / "report.html").exists()
    assert str(tmp_path / "page.html") in capsys.readouterr().out


def test_wrong_arguments_are_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, reason in ((tmp_path / "none", "no such folder"), (tmp_path / "empty", "not a run")):
        assert main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and reason in error and error.count("\n") == 1
        assert not (folder / "report.html").exists()


def test_unknown_values_of_a_number_with_few_values_lie_apart():
    """A number that only some architectures have is drawn like a category."""
    trials = pd.DataFrame({"trial_id": list("abc"), "score": 0.5, "model/arch": "unet", "model/levels": [3, 4, None]})
    levels = plot_parallel_coordinates(trials, ["model/levels"]).data[0].dimensions[0]
    assert (list(levels.ticktext), list(levels["values"])) == (["3", "4", "none"], [0, 1, 2])


def test_parameters_are_listed_by_the_importance_that_optuna_gives_them():
    trials = pd.DataFrame({"loss/mask_pixel": ["l1", "bce"], "model/width": [4, 8], "optim/lr": [0.01, 0.02]})
    names = ["optim/lr_scale", "unet/width", "loss/mask_pixel"]
    shares = pd.DataFrame({"architecture": "all", "parameter": names, "importance": [0.6, 0.3, 0.1]})
    assert list_varied(trials, shares) == ["optim/lr", "model/width", "loss/mask_pixel"]
