"""The whole way, once, within the shortest budget; and the user's mistakes."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from models.cost import Throughput
from models.score import Score
from search.config.budget import parse_budget
from search.config.options import RunOptions
from search.config.stages import build_stages
from search.experiment import Experiment, NoModelError, StageFailedError
from search.records.run_dir import hold
from tests.waiting import HANG_S, list_left_behind, list_ray_processes

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, timeout=HANG_S):
    command = [sys.executable, str(ROOT / "search" / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=os.environ)


@pytest.fixture(scope="module")
def finished(tiny_dataset, tmp_path_factory, stretch):
    """Folder and process of one run of 60 seconds, and its wall time as a share of its budget."""
    folder, budget_s = tmp_path_factory.mktemp("run") / "out", stretch(60)
    before, begin = list_ray_processes(), time.monotonic()
    options = ["--budget", f"{budget_s}s", "--data", tiny_dataset, "--out", folder, "--keep", "1"]
    process = run(*options, "--max-params", "100k")
    share = (time.monotonic() - begin) / budget_s
    assert process.returncode == 0, process.stderr
    assert not list_left_behind(before)
    return folder, process, share


def table(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.ray
class TestRun:
    def test_run_ends_within_its_budget(self, finished):
        assert finished[2] < 1.1

    def test_run_says_where_things_are_and_is_quiet_otherwise(self, finished):
        folder, process, _ = finished
        assert "best" in process.stdout and str(folder) in process.stdout
        assert "optuna-dashboard" in process.stdout and "tensorboard" in process.stdout
        assert process.stderr == ""

    def test_run_leaves_a_report_of_itself(self, finished):
        page = (finished[0] / "report.html").read_text()
        assert table(finished[0])[-1]["trial_id"] in page and "data:image/jpeg;base64," in page

    def test_promoted_trials_start_from_their_parents(self, finished):
        rows = table(finished[0])
        ids = {row["trial_id"]: row for row in rows}
        assert {row["stage"] for row in rows} - {"repeat"} == {"explore", "final"}  # explore has all of so few images
        for row in rows:
            assert row["status"] in ("completed", "stopped", "ended_by_budget", "failed")
            if row["stage"] != "explore":
                parent = ids[row["parent_id"]]
                assert parent["stage"] == {"final": "explore", "repeat": "explore"}[row["stage"]]
                assert parent["model/arch"] == row["model/arch"]
        assert next(row["px"] for row in rows if row["stage"] == "final") == "160"

    def test_reports_hold_what_the_table_ends_with(self, finished):
        reports = [json.loads(line) for line in (finished[0] / "reports.jsonl").read_text().splitlines()]
        last = {line["trial_id"]: line for line in reports}
        for row in table(finished[0]):
            if row["status"] != "failed":
                assert float(row["score"]) == last[row["trial_id"]]["best"]["score"]

    def test_ray_tune_writes_no_trials_and_keeps_one_checkpoint_of_each(self, finished):
        (snapshot,) = (finished[0] / "ray" / "1").glob("experiment_state-*.json")
        assert json.loads(snapshot.read_text())["trial_data"] == []
        counts = [len(list(trial.glob("checkpoint_*"))) for trial in (finished[0] / "ray" / "1").glob("*_*/")]
        assert set(counts) <= {0, 1} and 1 in counts

    def test_best_model_is_rebuilt_with_the_figures_it_claims(self, finished, tiny_dataset):
        from safetensors.torch import load_file

        from data.data_module import DataModule
        from data.loading.loaders import Loader
        from data.pack.stats import Stats
        from search.config.trial import TrialConfig
        from search.output.model_folder import TrainedModel, measure

        best = finished[0] / "best"
        about = json.loads((best / "config.json").read_text())
        winner = TrainedModel(
            config=TrialConfig.from_dict(about["config"]),
            weights=load_file(best / "model.safetensors"),
            stats=Stats.from_dict(about["stats"]),
            score=Score(sigma=about["sigma_depth"]),
            px=about["px"],
            trial_id=about["trial_id"],
        )
        pack = DataModule(tiny_dataset, seed=0).pack("test", winner.px)
        loader = Loader(pack, batch_size=32, stats=winner.stats)
        claimed = json.loads((best / "metrics.json").read_text())["test"]
        measured = measure(winner.model(), loader, winner.stats, winner.score)
        assert measured["score"] == pytest.approx(claimed["score"], abs=1e-4)
        assert measured["constant_guess"] == pytest.approx(claimed["constant_guess"])

    def test_study_tells_stopped_trials_as_pruned(self, finished):
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(finished[0] / "study.journal"))
        )
        study = optuna.load_study(study_name="explore", storage=storage)
        states = {t.user_attrs["trial_id"]: t.state.name for t in study.trials if "trial_id" in t.user_attrs}
        told = {"stopped": "PRUNED", "completed": "COMPLETE", "ended_by_budget": "COMPLETE", "failed": "FAIL"}
        for row in table(finished[0]):
            if row["stage"] == "explore":
                assert states[row["trial_id"]] == told[row["status"]]

    def test_run_json_records_the_stages(self, finished):
        run_state = json.loads((finished[0] / "run.json").read_text())
        names = [s["name"] for s in run_state["stages"] if s["name"] != "repeat"]  # for which time may be left
        assert run_state["state"] == "done" and names == ["explore", "final"]
        assert run_state["data"]["train"] + run_state["data"]["val"] + run_state["data"]["test"] == 40

    def test_test_part_is_read_once_by_the_model_in_best(self, finished):
        run_state = json.loads((finished[0] / "run.json").read_text())
        best = json.loads((finished[0] / "best" / "metrics.json").read_text())
        (read,) = run_state["test_read"]
        assert (
            read["trial_id"] == best["trial_id"] == run_state["best"] and read["images"] == best["test"]["images"] > 0
        )
        assert run_state["time"] <= read["time"]
        kept = list((finished[0] / "front").glob("*"))
        assert len(kept) == min(1, len([line for line in run_state["front"] if line["trial_id"] != run_state["best"]]))
        for folder in kept:
            metrics = json.loads((folder / "metrics.json").read_text())
            assert metrics["trial_id"] == folder.name and "val" in metrics and "test" not in metrics

    def test_front_is_of_trials_that_nobody_beats(self, finished):
        front = json.loads((finished[0] / "run.json").read_text())["front"]
        rows = {row["trial_id"]: row for row in table(finished[0])}
        assert front and [line["score"] for line in front] == sorted((line["score"] for line in front), reverse=True)
        for line in front:
            row = rows[line["trial_id"]]
            assert line["stage"] == row["stage"] != "explore" and line["params"] == int(row["params"])
            assert line["score"] == float(row["score"])

    def test_constraint_is_kept_by_every_trial(self, finished):
        assert all(int(row["params"]) <= 100_000 for row in table(finished[0]) if row["params"])

    def test_run_json_has_devices_and_how_well_stages_foretell_each_other(self, finished):
        run_state = json.loads((finished[0] / "run.json").read_text())
        assert run_state["device_s"]["cpu"] == pytest.approx(
            run_state["devices"]["cpu"] * run_state["wall_s"], rel=0.01
        )
        final = next(stage for stage in run_state["stages"] if stage["name"] == "final")
        correlation = final["rank_correlation_with_previous_stage"]
        if correlation is not None:  # of three trials or more that have a score
            assert -1 <= correlation["spearman"]["low"] <= correlation["spearman"]["high"] <= 1
            assert correlation["trials"] <= final["trials"]

    def test_weights_are_kept_of_the_top_only_and_nothing_goes_on_from_them(self, finished):
        import torch

        from search.tuning.promotion import KEPT_CHECKPOINTS

        states = list((finished[0] / "ray").glob("*/e*/checkpoint_*/*.pt"))
        assert 0 < len(states) <= 2 * KEPT_CHECKPOINTS + 1
        assert set(torch.load(states[0], weights_only=True)) == {"best", "epoch"}

    def test_finished_run_is_not_locked(self, finished):
        assert [path.name for path in finished[0].iterdir() if "lock" in path.name] in ([], [".lock"])
        with hold(finished[0]):
            pass

    def test_tensorboard_holds_every_trial(self, finished):
        for row in table(finished[0]):
            assert list((finished[0] / "tensorboard" / row["trial_id"]).glob("events*"))


@pytest.mark.slow
@pytest.mark.ray
class TestGrid:
    def test_grid_trains_what_is_stated_to_its_end_and_promotes(self, grid_run):
        rows = [row for row in table(grid_run.folder) if row["stage"] == "explore"]
        assert [(row["trial_id"], row["optim/lr"]) for row in sorted(rows, key=lambda row: row["trial_id"])] == [
            ("e0001", "0.02"),
            ("e0002", "0.003"),
        ]
        assert {row["model/arch"] for row in rows} == {"residual"}
        assert {row["status"] for row in rows} <= {"completed", "ended_by_budget"}  # none was stopped for another
        assert {row["stage"] for row in table(grid_run.folder)} - {"repeat"} == {"explore", "final"}
        assert not (grid_run.folder / "study.journal").exists()

    def test_random_split_warns_and_says_how_optimistic_it_is(self, grid_run):
        folder, process, _ = grid_run
        assert "warning: --split random leaks" in process.stderr
        metrics = json.loads((folder / "best" / "metrics.json").read_text())
        apart = metrics["val"]["score"] - metrics["test"]["score"]
        assert metrics["validation_minus_test"]["score"] == pytest.approx(apart)
        assert f"too optimistic by {apart:.3f}" in process.stdout
        assert json.loads((folder / "run.json").read_text())["data"]["split"] == "random"

    def test_trials_table_has_the_figures_of_the_network(self, grid_run):
        for row in table(grid_run.folder):
            assert int(row["params"]) > 0 and int(row["macs"]) > 0 and int(row["receptive_field"]) > 0
            assert float(row["checkerboard"]) >= 0 and int(row["micro_batch_size"]) == 8

    def test_tensorboard_has_the_pictures_of_the_promoted(self, grid_run):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        for row in table(grid_run.folder):
            events = EventAccumulator(str(grid_run.folder / "tensorboard" / row["trial_id"])).Reload()
            assert bool(events.Tags()["images"]) == (row["stage"] == "final")  # not of repeats
            assert "lr/batch" in events.Tags()["scalars"]


def test_stages_of_a_budget_of_trials_stay_when_time_is_added():
    experiment = Experiment.__new__(Experiment)
    experiment.options = RunOptions(budget=parse_budget("60s"))
    experiment.run_state = SimpleNamespace(trainings=None, earlier=[{"state": "done"}])
    assert experiment._build_stages(experiment.options.budget, Throughput(1e9), 1) == build_stages()
    experiment.run_state.earlier = []
    assert experiment._build_stages(experiment.options.budget, Throughput(1e9), 1)[0].px == 160  # a race


HELP = """
import sys
from search.run import build_parser
build_parser().format_help()
print(sorted({"ray", "torch", "optuna", "cv2", "numpy", "pandas", "albumentations"} & sys.modules.keys()))
"""


def test_help_imports_nothing_that_takes_long():
    assert run("--help").returncode == 0
    process = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, cwd=ROOT)
    assert process.stdout.split() == ["[]"], process.stderr


@pytest.mark.parametrize(
    ("budget", "data", "says"),
    [
        ("soon", "tiny", "--budget 'soon' is not a budget"),
        ("60s", "nowhere", "no such folder"),
        ("60s", "empty", "put images/ and masks/"),
        ("60s", "one background", "split needs 2"),
        ("60s", "lacking depth", "5 of 40 triplets cannot be used"),
    ],
)
def test_mistake_gives_one_line_and_exit_code_2(budget, data, says, tiny_dataset, tmp_path):
    process = run("--budget", budget, "--data", faulty(data, tiny_dataset, tmp_path), "--out", tmp_path / "out")
    assert process.returncode == 2
    assert says in process.stderr and process.stderr.count("\n") == 1
    described = "relative, near = bright" in process.stdout  # what the folder is read as, where it can be read
    assert process.stdout.count("\n") == described and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--recipe", "net"), "no recipe 'net'; choose from"),
        (("--recipe", "study", "--width", "1"), "width=1 must be from 4 to 256"),
        (("--width", "8"), "--width applies only to --recipe"),
        (("--grid", "none.json"), "none.json: cannot be read"),
        (("--recipe", "study", "--grid", "none.json"), "not allowed with argument"),
        (("--find-lr", "--recipe", "study"), "not allowed with argument"),
        (("--split", "none"), "invalid choice"),
        (("--max-params", "x"), "'x' is not an amount; write 250k, 1M or 1.5G"),
        (("--max-macs", "0"), "'0' is not an amount"),
        (("--max-latency-ms", "-3"), "'-3' is not an amount"),
        (("--keep", "-1"), "'-1' is not a whole number"),
        (("--keep", "two"), "'two' is not a whole number"),
        (("--workers", "0"), "'0' is not a whole number, at least 1"),
        (("--workers", "9999"), "--workers 9999: this process may use"),
        (("--sampler", "x"), "invalid choice"),
        (("--stages", "x"), "invalid choice"),
    ],
)
def test_wrong_statement_exits_with_code_2_before_anything_starts(arguments, says, tiny_dataset, tmp_path):
    process = run("--budget", "60s", "--data", tiny_dataset, "--out", tmp_path / "out", *arguments)
    assert process.returncode == 2 and says in process.stderr and process.stderr.count("\n") == 1
    assert process.stdout == "" and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--max-params", "100"), "--max-params 100: no network of the search space meets this; the smallest has"),
        (
            ("--recipe", "study", "--max-params", "1M"),
            "--max-params 1,000,000: no network of those configured meets",
        ),
    ],
)
def test_constraint_that_no_network_keeps_is_refused_in_one_line(arguments, says, tiny_dataset, tmp_path):
    process = run("--budget", "60s", "--data", tiny_dataset, "--out", tmp_path / "out", *arguments)
    assert process.returncode == 2 and says in process.stderr and process.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_gpu_hours_without_a_gpu_are_refused_in_one_line(tiny_dataset, tmp_path):
    process = run("--budget", "2gpuh", "--data", tiny_dataset, "--out", tmp_path / "out")
    assert process.returncode == 2 and "there is no GPU here" in process.stderr and "2cpuh" in process.stderr
    assert process.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_budget_below_the_grid_is_refused(tiny_dataset, tmp_path):
    (tmp_path / "grid.json").write_text('[{"recipe": "unet"}, {"recipe": "residual"}]')
    process = run("--budget", "1trials", "--data", tiny_dataset, "--grid", tmp_path / "grid.json")
    assert process.returncode == 2 and "less than the 2 configurations" in process.stderr


def faulty(kind, dataset, folder):
    """Return a data set folder with the fault of that name."""
    import shutil

    if kind in ("tiny", "nowhere", "empty"):
        (folder / "empty").mkdir()
        return {"tiny": dataset, "nowhere": folder / "nowhere", "empty": folder / "empty"}[kind]
    copy = folder / "copy"
    shutil.copytree(dataset, copy)
    if kind == "lacking depth":
        for path in sorted((copy / "depth").iterdir())[::9]:
            path.unlink()
        return copy
    (copy / "manifest.csv").unlink()
    (copy / "dataset.json").unlink()
    return copy


def test_folder_in_use_is_refused_and_left_alone(tiny_dataset, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    process = run("--budget", "60s", "--data", tiny_dataset, "--out", tmp_path)
    assert process.returncode == 2 and "in use" in process.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_bad_picture_is_named(tiny_dataset, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_dataset, copy)
    for path in (copy / "masks").iterdir():
        path.write_bytes(b"not a picture")
    process = run("--budget", "60s", "--data", copy, "--out", tmp_path / "out")
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "masks/" in process.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("records", "kind"), [({}, NoModelError), ({"e0001": None}, StageFailedError)])
def test_failure_before_the_first_trial_cannot_be_resumed(records, kind, monkeypatch):
    runner = SimpleNamespace(open_searchers=lambda: iter(()), failure="--max-params 1: none meets this")
    monkeypatch.setattr("search.experiment.StageRunner", lambda *_, **__: runner)
    options, table = SimpleNamespace(configs=(), find_lr=False), SimpleNamespace(records=records)
    named = dict.fromkeys(("stages", "folder", "run_state", "checkpoints", "console", "interrupt"))
    with pytest.raises(kind, match="none meets this"):
        Experiment._tune(SimpleNamespace(options=options, table=table, **named), None)


def test_slow_start_is_printed_with_the_command_that_extends_the_run(tmp_path):
    lines, experiment = [], Experiment.__new__(Experiment)
    experiment.folder, experiment.options = tmp_path, SimpleNamespace(storage=None, configs=())
    experiment.console = SimpleNamespace(print=lambda line, whole: lines.append(line))
    experiment._announce(SimpleNamespace(dashboard=""), "starting took 88 s")
    assert lines[-1].startswith("starting took 88 s; to train longer afterwards: python ")
    assert lines[-1].endswith(f"--resume {tmp_path} --budget 10m")
    experiment._announce(SimpleNamespace(dashboard=""), "")
    assert len(lines) == 9
