"""Tests of analysis.compare.compare."""

import contextlib
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t, ttest_1samp

from analysis import AnalysisError, load_model
from analysis.compare import methods, scoring
from analysis.compare.__main__ import build_parser, main
from analysis.compare.compare import (
    DELTA,
    build_comparison_table,
    count_seeds,
    estimate_mean,
    format_estimate,
    format_range,
    plot_over_time,
)
from analysis.predict.evaluate import evaluate
from data.data_module import DataModule
from data.dataset import DatasetSpec
from data.loading.loaders import Loader
from data.reading.layout import read_dataset
from models.metrics import MetricSums
from models.score import Score
from search.config.budget import parse_budget
from search.output.model_folder import measure
from search.records.run_dir import write_json, write_lines

BUDGET = parse_budget("3m")


def report(trial_id, ended_s, score, *, stage="explore"):
    """Return a line of reports.jsonl whose score uses sigma 0.2."""
    metrics = {"score": score, "iou": score, "rmse_depth": 0.2 * (1 - score)}
    return {"trial_id": trial_id, "stage": stage, "ended_s": ended_s, **metrics}


def write_run(folder, *, val, test, seed=0, reports=(), failed=()):
    """Write the files of a finished run that the comparison reads."""
    folder.mkdir(parents=True)
    state = {"state": "done", "best": "f0001", "wall_s": 60.0, "budget": "3m", "seed": seed, "data": {"folder": "d"}}
    state["measured"] = {"val_score": val, "test_score": test, "test_iou": test, "test_rmse_depth": 0.1, "sigma": 0.2}
    write_json(folder / "run.json", state)
    row = {"trial_id": "f0001", "stage": "final", "status": "completed", "images_seen": 10}
    row |= {"model/arch": "unet", "model/width": 4, "params": 1000}
    rows = [row, *(row | {"trial_id": name, "status": "failed", "params": None} for name in failed)]
    pd.DataFrame(rows).to_csv(folder / "trials.csv", index=False)
    write_lines(folder / "reports.jsonl", reports or [report("f0001", 20.0, val)])
    return folder


@pytest.fixture
def commands(monkeypatch):
    """Replace the runs; return the commands that would start them."""
    asked = []

    class Run(contextlib.nullcontext):
        returncode = 0

        def __init__(self, command, **_):
            super().__init__(self)
            asked.append(command)
            seed = int(command[command.index("--seed") + 1])
            val = 0.6 if "--recipe" in command else 0.8
            write_run(Path(command[command.index("--out") + 1]), val=val + seed / 10, test=val - 0.3, seed=seed)

        def communicate(self, timeout):
            return None, ""

    monkeypatch.setattr(methods.subprocess, "Popen", Run)
    monkeypatch.setattr(scoring, "measure_model", lambda folder, state: state["measured"])
    return asked


def comparison_of(folder, *names):
    return methods.Comparison(data=Path("d"), budget=BUDGET, methods=names, seeds=2, out=folder)


def arguments(folder, *more):
    return ["--data", "d", "--budget", "3m", "--seeds", "2", "--out", str(folder), *more]


def test_every_method_runs_every_seed_at_the_same_budget(commands, tmp_path, capsys):
    assert main(arguments(tmp_path, "--methods", "default,study")) == 0
    assert len(commands) == 4 and all(c[c.index("--budget") + 1] == "3m" for c in commands)
    assert [c[c.index("--seed") + 1] for c in commands] == ["0", "0", "1", "1"]
    written = (tmp_path / "table.md").read_text()
    assert "| default | 2 | 0.500 [0.500, 0.500] | - | - | - |" in written
    assert "| study | 2 | 0.300 [0.300, 0.300] | -0.200 [-0.200, -0.200] | 0 of 2 | 2 |" in written
    assert "| 0.850 [0.800, 0.900] | +0.350 [+0.300, +0.400] |" in written
    assert capsys.readouterr().out.endswith(written)
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 4
    assert cv2.imread(str(tmp_path / "best_over_time.png")) is not None
    assert "<svg" in (tmp_path / "best_over_time.svg").read_text()


def test_progress_names_the_run_and_the_time_left(commands, tmp_path, capsys):
    methods.run_missing(comparison_of(tmp_path, "default"))
    methods.run_missing(comparison_of(tmp_path, "default", "study", "random"))
    assert capsys.readouterr().out.splitlines()[:3] == [
        "run 1 of 2: default, seed 0; 6 min to go",
        "run 2 of 2: default, seed 1; 3 min to go",
        "run 1 of 4: study, seed 0; 12 min to go",
    ]
    assert len(commands) == 6  # runs that exist are not repeated


def test_four_methods_are_the_default():
    methods_run = build_parser().parse_args(["--data", "d", "--budget", "3m"]).methods
    assert methods_run == ["default", "starter", "random", "asha_only"]


def test_methods_are_compared_on_the_images_of_a_judge(commands, tiny_dataset, finished_run, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(scoring, "load_model", lambda run: loaded.append(run) or load_model(finished_run, device="cpu"))
    named = ["--methods", "default,study", "--judge", str(tiny_dataset)]
    assert main(arguments(tmp_path / "out", *named)) == 0
    assert [run.name for run in loaded] == ["default-0", "study-0", "default-1", "study-1"]
    table = evaluate(load_model(finished_run, device="cpu"), read_dataset(tiny_dataset))
    mean = table.loc[table["by"] == "model", "score"].mean()
    written = (tmp_path / "out" / "table.md").read_text()
    assert f"| study | 2 | {mean:.3f} [{mean:.3f}, {mean:.3f}] | +0.000 [+0.000, +0.000] |" in written
    assert "score on --judge data minus default" in written and "| test score |" in written


def test_judge_that_cannot_be_read_is_said_before_the_first_run(commands, tmp_path, capsys):
    assert main(arguments(tmp_path / "out", "--judge", str(tmp_path / "nowhere"))) == 2
    assert "nowhere" in capsys.readouterr().err and not commands


def test_models_of_the_common_size_are_measured_as_a_run_measures_its_own(finished_run, tiny_dataset, monkeypatch):
    model, data_module = load_model(finished_run, device="cpu"), DataModule(tiny_dataset, seed=0)
    monkeypatch.setattr(scoring, "PX", model.px)
    row = scoring.measure_model(finished_run, state_of(tiny_dataset, data_module))
    assert row["sigma"] == data_module.pack("val", model.px).stats.depth_std
    for part in ("val", "test"):
        loader = Loader(data_module.pack(part, model.px), batch_size=32, stats=model.stats)
        found = measure(model.network, loader, model.stats, Score(sigma=row["sigma"]))
        assert {name: row[f"{part}_{name}"] for name in scoring.METRICS} == {
            name: found[name] for name in scoring.METRICS
        }


def test_models_of_another_size_are_measured_against_the_truth_at_the_common_one(
    finished_run, tiny_dataset, monkeypatch
):
    monkeypatch.setattr(scoring, "PX", 64)
    model, data_module = load_model(finished_run, device="cpu"), DataModule(tiny_dataset, seed=0)
    row = scoring.measure_model(finished_run, state_of(tiny_dataset, data_module))
    sums, pack = MetricSums(Score(sigma=row["sigma"])), data_module.pack("test", 64)
    loader = Loader(pack, batch_size=1, stats=model.stats)
    for number, batch in enumerate(loader.epoch(0)):
        maps = model.predict_squares(model.to_square(pack.gather(np.array([number])).image[0])[None])[0]
        enlarged = np.stack([cv2.resize(each, (64, 64), interpolation=cv2.INTER_LINEAR) for each in maps])
        sums.update(torch.from_numpy(enlarged)[None], batch.target)
    assert model.px == 32 and row["px"] == 32
    assert row["test_score"] == pytest.approx(sums.compute()["score"], abs=1e-3)
    as_it_is = measure(model.network, loader, model.stats, Score(sigma=row["sigma"]))
    assert abs(as_it_is["score"] - row["test_score"]) > 1e-2


def test_split_by_image_is_measured_with_the_sigma_of_the_others(finished_run, tiny_dataset, monkeypatch):
    monkeypatch.setattr(scoring, "PX", 32)
    known = DataModule(tiny_dataset, seed=0).dataset.spec.to_dict()
    for spec in (known, known | {"missing": list(range(150, 256))}):  # the second as configured by --missing
        data_module = DataModule(tiny_dataset, seed=0, specs=[DatasetSpec.from_dict(spec)])
        rows = [
            scoring.measure_model(finished_run, state_of(tiny_dataset, data_module, split))
            for split in ("background", "random")
        ]
        assert rows[0]["sigma"] == rows[1]["sigma"] and rows[0]["val_rmse_depth"] != rows[1]["val_rmse_depth"]


def state_of(folder, data_module, split="background"):
    known = {"split": split, "fingerprint": data_module.dataset.fingerprint}
    return {"seed": 0, "data": {"folder": str(folder), "specs": [data_module.dataset.spec.to_dict()], **known}}


def test_changed_data_are_refused(finished_run, tiny_dataset, tmp_path, monkeypatch, capsys):
    state = {"state": "done", "budget": "3m", "seed": 0, "best": "f0001", "wall_s": 1.0}
    write_run(tmp_path / "default-0", val=0.5, test=0.5)
    data = {"folder": str(tiny_dataset), "split": "background", "fingerprint": "of other data", "specs": [{}]}
    write_json(tmp_path / "default-0" / "run.json", state | {"data": data})
    (tmp_path / "default-0" / "best").symlink_to(finished_run / "best")
    assert main(arguments(tmp_path, "--data", str(tiny_dataset), "--seeds", "1", "--methods", "default")) == 2
    assert "has changed since the run began" in capsys.readouterr().err and not (tmp_path / "table.md").exists()


def test_best_of_the_highest_stage_is_the_incumbent(tmp_path):
    lines = [
        report("e2", 9.0, 0.5),
        report("e1", 5.0, 0.3),
        report("e3", 12.0, 0.4),
        report("e4", 13.0, 0.9),  # fails in the end
        report("c1", 20.0, 0.45, stage="confirm"),
        report("e5", 21.0, 0.6),  # of a stage that decides nothing any more
        report("f1", 30.0, 0.5, stage="final"),
        report("f2", 31.0, 0.7, stage="final"),
        report("r1", 40.0, 0.6, stage="repeat"),
        report("r2", 41.0, 0.8, stage="repeat"),
        {"trial_id": "r3", "stage": "repeat", "ended_s": 42.0, "score": None},
    ]
    changes = scoring.trace_incumbent(
        write_run(tmp_path / "run", val=0.5, test=0.5, reports=lines, failed=("e4",)), 0.2
    )
    assert list(changes["time_s"]) == [5.0, 9.0, 20.0, 30.0, 31.0, 41.0]
    assert list(changes["score"]) == pytest.approx([0.3, 0.5, 0.45, 0.5, 0.7, 0.8])


def test_scores_over_time_use_the_common_sigma(tmp_path):
    folder = write_run(tmp_path / "run", val=0.5, test=0.5, reports=[report("e1", 5.0, 0.5)])
    assert scoring.trace_incumbent(folder, 0.4)["score"].item() == pytest.approx(0.5 * 0.5 + 0.5 * (1 - 0.1 / 0.4))
    line = {"trial_id": "e1", "stage": "explore", "ended_s": 5.0, "score": 0.5, "iou": 0.5}  # no depth known
    assert scoring.trace_incumbent(write_run(tmp_path / "b", val=0, test=0, reports=[line]), 0.4)["score"].item() == 0.5


@pytest.mark.parametrize("lacking", ["run.json", "best", "data", "e0009"])
def test_run_without_a_model_is_named(lacking, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "measure_model", lambda folder, state: {})
    folder = write_run(tmp_path / "default-0", val=0.5, test=0.5, failed=("e4",))
    assert str(scoring.score_run(folder)["params"]) == "1000"
    state = json.loads((folder / "run.json").read_text())
    state = {"best": "e0009", **{n: v for n, v in state.items() if n != "best"}} if lacking == "e0009" else state
    write_json(folder / "run.json", {name: value for name, value in state.items() if name != lacking})
    if lacking == "run.json":
        (folder / "run.json").unlink()
    with pytest.raises(AnalysisError, match="default-0: not a run that has ended with a model"):
        scoring.score_run(folder)


def test_score_holds_until_the_next(tmp_path):
    changes = pd.DataFrame({"time_s": [5.0, 9.0], "score": [0.3, 0.2]})
    assert scoring.sample_curve(changes, np.array([1.0, 5.0, 8.0, 99.0])) == pytest.approx(
        [np.nan, 0.3, 0.3, 0.2], nan_ok=True
    )


@pytest.mark.parametrize("other", [("--budget", "5m"), ("--data", "e")])
def test_runs_of_another_budget_or_of_other_data_are_not_mixed_in(other, commands, tmp_path, capsys):
    methods.run_missing(comparison_of(tmp_path, "default"))
    assert main(arguments(tmp_path, *other)) == 2
    assert "default-0 is a run of 3m on" in capsys.readouterr().err and len(commands) == 2


def test_file_in_the_place_of_the_folder_is_refused(commands, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(arguments(tmp_path / "file")) == 2
    assert "is a file" in capsys.readouterr().err and not commands


def test_unfinished_run_is_named_and_left_before_anything_runs(commands, tmp_path, capsys):
    (tmp_path / "starter-1").mkdir()
    assert main(arguments(tmp_path)) == 2
    assert "starter-1 holds no finished run; remove it" in capsys.readouterr().err and not commands
    write_json(tmp_path / "starter-1" / "run.json", {"state": "done"})
    assert main(arguments(tmp_path)) == 2
    assert "starter-1 holds no finished run; remove it" in capsys.readouterr().err and not commands


def test_failed_run_speaks_for_itself(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none"), "--budget", "60s", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: default, seed 0: error:") and "no such folder" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--methods", "best"), "no method 'best'; choose from default, starter"),
        (("--seeds", "0"), "seeds"),
        (("--budget", "1x"), "1x"),
    ],
)
def test_wrong_argument_exits_with_2(more, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments(tmp_path, *more))
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_interval_of_a_mean_is_students():
    sample = np.random.default_rng(0).normal(0.5, 0.1, 12)
    expected = ttest_1samp(sample, 0).confidence_interval(0.95)
    assert list(estimate_mean(sample)) == pytest.approx([sample.mean(), expected.low, expected.high])
    assert list(estimate_mean(np.array([0.3]))) == [0.3, 0.3, 0.3]
    assert estimate_mean(np.zeros((4, 7))).shape == (3, 7)


@pytest.mark.parametrize("form", [format_estimate, format_range])
def test_single_run_has_no_interval(form):
    assert form(pd.Series([0.654])) == "0.654" and form(pd.Series([float("nan")])) == "-"
    assert form(pd.Series([0.5, 0.7])).startswith("0.600 [")


def test_seeds_for_a_difference_give_an_interval_that_is_just_narrow_enough():
    differences = [0.1, -0.05, 0.02, 0.0, 0.07]
    seeds, std = count_seeds(differences), np.std(differences, ddof=1)
    widths = [t.ppf(0.975, n - 1) * std / n**0.5 for n in (seeds - 1, seeds)]
    assert widths[0] > DELTA >= widths[1]
    assert count_seeds([0.1, 0.1]) == 2


def runs_of(scores, **more):
    rows = [
        {"method": method, "seed": seed, "val_score": value, "test_score": value}
        for method, values in scores.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(**{"wall_s": 180.0, "trials": 40, "params": 1000} | more)


def test_methods_are_paired_by_seed():
    lines = build_comparison_table(runs_of({"study": [0.1, 0.6, 0.3], "default": [0.2, 0.5, 0.5]}), BUDGET).splitlines()
    assert "| test score minus default | above default | seeds for 0.03 |" in lines[0]
    assert "| -0.067 [-0.446, +0.313] | 1 of 3 | 103 |" in lines[2]


def test_without_default_there_is_no_pair():
    assert "default" not in build_comparison_table(runs_of({"study": [0.1], "random": [0.2]}), BUDGET)


def test_without_test_part_validation_counts():
    written = build_comparison_table(
        runs_of({"default": [0.2, 0.4], "study": [0.1, 0.2]}).drop(columns="test_score"), BUDGET
    )
    assert "| validation score, mean | validation score minus default |" in written and "test" not in written
    assert "| study | 2 | 0.150 [-0.485, 0.785] | -0.150 [-0.785, +0.485] | 0 of 2 |" in written


def test_run_that_takes_over_2_percent_longer_is_marked():
    written = build_comparison_table(
        runs_of({"default": [0.2, 0.4], "study": [0.1, 0.2]}, wall_s=[170.0, 183.0, 180.0, 184.0]), BUDGET
    )
    assert "| 176 (longest 183) |" in written and "| 182 (longest 184; **1 late**) |" in written
    assert "late**" not in build_comparison_table(runs_of({"default": [0.2]}, wall_s=999.0), parse_budget("40trials"))


def test_seed_without_test_images_does_not_hide_the_others():
    written = build_comparison_table(runs_of({"default": [0.2, 0.4, np.nan], "study": [np.nan] * 3}), BUDGET)
    assert "| default | 3 | 0.300 [-0.971, 1.571] |" in written and "| study | 3 | - | - |" in written


def test_methods_of_a_plot_differ_in_colour_or_dashes():
    runs = runs_of({name: [0.5] for name in methods.METHODS})
    lines = plot_over_time(runs, [pd.DataFrame({"time_s": [5.0], "score": [0.5]})] * len(runs)).axes[0].lines
    looks = {(line.get_color(), str(line._dash_pattern)) for line in lines[: len(runs)]}
    assert len(looks) == len(methods.METHODS)


def test_plot_has_a_line_and_a_dot_for_each_method_in_its_own_colour():
    changes = [
        pd.DataFrame({"time_s": [10.0, 20.0], "score": [0.1, 0.4]}),
        pd.DataFrame({"time_s": [30.0], "score": [0.2]}),
        pd.DataFrame({"time_s": [5.0], "score": [-0.5]}),
        pd.DataFrame({"time_s": [5.0], "score": [-0.5]}),
    ]
    figure = plot_over_time(runs_of({"study": [0.3, 0.5], "default": [0.1, 0.1]}), changes)
    ax, ends = figure.axes
    study, default = ax.lines[:2]
    assert study.get_xdata()[0] == pytest.approx(30, abs=0.5)  # the moment at which both runs have a model
    assert study.get_ydata() == pytest.approx([0.3] * len(study.get_ydata()))
    assert study.get_color() != default.get_color()
    assert [text.get_text() for text in ends.get_legend().get_texts()] == [
        "study: 0.400 [-0.871, 1.671]",
        "default: 0.100 [0.100, 0.100]",
    ]
    assert ax.get_ylim()[0] < -0.5
