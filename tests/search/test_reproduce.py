"""Reproduction of trials, from a run folder made by `fit` and the trial table without Ray."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
import torch

from data.data_module import DataModule
from models.architectures.registry import parse_model_config
from search.config.encoder_weights import read_encoder_weights
from search.config.trial import TrialConfig
from search.records.run_dir import write_json
from search.records.run_state import describe_process
from search.records.trials import TrialRecord, TrialTable
from search.reproduce.__main__ import main
from search.reproduce.reproduce import RunRecords, find_differences
from search.training.trainer import STATE_FILE, FitPlan, TrialDivergedError, fit
from tests.published import published_lite
from tests.trials import make_record

PX, IMAGES = 32, (16, 8)


class StoppedError(Exception):
    """Ends a trial inside its report, as Ray does."""


class Maker:
    """Makes a run."""

    def __init__(self, folder, dataset):
        folder.mkdir()
        self.folder, self.table = folder, TrialTable(folder)
        data_module = DataModule(dataset, seed=0)
        self.data = data_module.load_recorded_data(PX, *IMAGES)
        sizes = dict(zip(("px", "train_images", "val_images"), (PX, *IMAGES), strict=True))
        stages = [{"name": name, "began_s": 0.0, **sizes} for name in ("explore", "confirm")]
        content = {"options": {}, "seed": 0, "data": data_module.to_dict(), "stages": stages}
        write_json(folder / "run.json", {**describe_process(), **content})

    def train(
        self, trial_id, config, *, parent="", stop=99, keep=True, weights=None, resume=None, limit_s=None, **plan
    ):
        """Train a trial as a worker does and return its state after each epoch."""
        stage, states = {"e": "explore", "c": "confirm"}[trial_id[0]], []
        if trial_id not in self.table.records:
            record = TrialRecord(trial_id=trial_id, parent_id=parent, stage=stage, seed=5, config=config.flatten())
            self.table.start(dataclasses.replace(record, started_s=1.0))

        def report(metrics, state):
            torch.save(state(), self.folder / STATE_FILE)
            states.append(torch.load(self.folder / STATE_FILE, weights_only=True))
            metrics["epochs"] = metrics.pop("epoch")
            sizes = {"px": PX, "train_images": IMAGES[0], "val_images": IMAGES[1]}
            self.table.report(trial_id, {**metrics, **sizes})
            if keep:
                path = self.folder / "ray" / "1" / f"{trial_id}_unet" / "checkpoint_000000" / STATE_FILE
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.folder / STATE_FILE, path)
            if metrics["epochs"] == stop:
                raise StoppedError

        options = {"weights": weights, "resume": resume, "limit_s": limit_s}
        try:
            fit(config, self.data, FitPlan(seed=5, **plan), report=report, **options)
            self.table.finish(
                trial_id, "ended_by_budget" if self.table.records[trial_id].metrics["out_of_time"] else "completed"
            )
        except StoppedError:
            self.table.finish(trial_id, "stopped")
        except TrialDivergedError as error:
            self.table.finish(trial_id, "failed", str(error), replay=error.replay)
        return states


@pytest.fixture(scope="module")
def config():
    return TrialConfig.from_dict(
        {
            "model": {"arch": "unet", "width": 4, "stem_stride": 4, "levels": 3, "block": "plain"},
            "loss": {"depth_structural": "none", "balance": "uncertainty"},
            "optim": {"batch_size": 4, "lr": 0.01},
            "augment": {"flip": 0.5, "brightness_contrast": 0.5},
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_dataset, config):
    """A run with a trial of every kind."""
    maker = Maker(tmp_path_factory.mktemp("again") / "run", tiny_dataset)
    wild = dataclasses.replace(config.optim, name="sgd", lr=1e30, clip_norm=0.0, momentum=0.0)
    cut = maker.train("e0001", config, epochs=100_000, limit_s=0.8, refine=0.5)
    stopped = maker.train("e0002", config, epochs=9, stop=2, keep=False)
    maker.train("e0003", dataclasses.replace(config, optim=wild), epochs=5, limit_s=0.5)
    maker.train("c0001", config, parent="e0001", weights=cut[-1]["best"]["weights"], epochs=2)
    maker.train("c0002", config, parent="e0002", weights=stopped[-1]["best"]["weights"], epochs=2, limit_s=100.0)
    begun = maker.train("e0004", config, epochs=100_000, stop=3, limit_s=60.0)
    maker.train("e0004", config, resume=begun[-1], epochs=100_000, limit_s=1.0)
    maker.table.start(make_record("e0009", seed=1, config=config.flatten()))
    maker.table.finish("e0009", "failed", "worker died")
    return maker.folder


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def tamper(folder, trial_id, epoch, change):
    """Change a line of reports.jsonl."""
    lines = [json.loads(line) for line in (folder / "reports.jsonl").read_text().splitlines()]
    change(next(line for line in lines if (line["trial_id"], line["epochs"]) == (trial_id, epoch)))
    (folder / "reports.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def replays(folder, trial_id):
    return [report["replay"]["clock"] for report in RunRecords(folder).load_history(trial_id).reports]


def reproduce(folder, trial_id, capsys, *options):
    code = main([str(folder), trial_id, *options])
    return code, capsys.readouterr()


def test_trial_cut_by_the_clock_repeats_bit_for_bit(run, capsys):
    record = RunRecords(run).table.records["e0001"]
    assert record.status == "ended_by_budget" and any(replays(run, "e0001"))
    code, printed = reproduce(run, "e0001", capsys)
    assert code == 0, printed.out
    assert printed.out.count(": same, score") == record.metrics["epochs"]
    assert "e0001: the same, bit for bit" in printed.out


def test_trial_repeats_only_with_its_readings(copied, capsys):
    def without_time(line):
        line["replay"]["clock"] = []

    for epoch in range(1, len(replays(copied, "e0001")) + 1):
        tamper(copied, "e0001", epoch, without_time)
    code, printed = reproduce(copied, "e0001", capsys)
    assert code == 1 and "different" in printed.out


def test_stopped_trial_is_trained_as_far_as_its_record_goes(run, capsys):
    code, printed = reproduce(run, "e0002", capsys)
    assert code == 0 and printed.out.count(": same, score") == 2


def test_trial_that_was_resumed_repeats_in_one_go(run, capsys):
    clock = replays(run, "e0004")
    assert len(clock) >= 4 and any(clock[3:])
    assert reproduce(run, "e0004", capsys)[0] == 0


def test_diverged_trial_fails_again_for_the_same_reason(run, copied, capsys):
    reason = RunRecords(run).table.records["e0003"].reason
    code, printed = reproduce(run, "e0003", capsys)
    assert code == 0 and f"failed as recorded: {reason}" in printed.out
    text = (copied / "trials.jsonl").read_text()
    (copied / "trials.jsonl").write_text(text.replace(reason, "loss is nan in epoch 7"))
    code, printed = reproduce(copied, "e0003", capsys)
    assert code == 1 and f"it failed, {reason}; the record says loss is nan in epoch 7" in printed.out


def test_promoted_trial_begins_with_the_weights_of_its_parent(run, capsys):
    code, printed = reproduce(run, "c0001", capsys)
    assert code == 0 and "from the weights of e0001" in printed.out and "training it again first" not in printed.out


def test_weights_of_a_parent_are_read_from_the_storage_of_the_run(copied, tmp_path, capsys):
    content = json.loads((copied / "run.json").read_text())
    write_json(copied / "run.json", {**content, "options": {"storage": f"file://{tmp_path}/storage"}})
    assert RunRecords(copied).find_weights("e0001") is None
    (tmp_path / "storage").mkdir()
    shutil.move(copied / "ray", tmp_path / "storage" / "ray")
    assert RunRecords(copied).find_weights("e0001").keys() == RunRecords(copied).find_weights("c0001").keys()
    shutil.rmtree(tmp_path / "storage" / "ray")
    (tmp_path / "storage" / "ray").touch()
    code, printed = reproduce(copied, "c0001", capsys)
    assert code == 2 and "storage/ray cannot be used" in printed.err


def test_trial_whose_encoder_has_weights_of_a_file_finds_them_by_the_record(
    tmp_path, monkeypatch, tiny_dataset, config, capsys
):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    torch.save(published_lite(0), tmp_path / "lite.pth")
    encoder, maker = read_encoder_weights(str(tmp_path / "lite.pth")), Maker(tmp_path / "run", tiny_dataset)
    model = parse_model_config({**encoder.model, "encoder_stride": 16})
    maker.train("e0001", dataclasses.replace(config, model=model), epochs=1, encoder=str(encoder.path))
    content = json.loads((maker.folder / "run.json").read_text())
    write_json(maker.folder / "run.json", {**content, "options": {"encoder_weights": dataclasses.asdict(encoder)}})
    encoder.path.unlink()
    assert reproduce(maker.folder, "e0001", capsys)[0] == 0 and encoder.path.is_file()
    encoder.path.unlink()
    torch.save(published_lite(0), tmp_path / "lite.pth")
    code, printed = reproduce(maker.folder, "e0001", capsys)
    assert code == 2 and "lite.pth is not the file that the run began with" in printed.err


def test_parent_whose_weights_are_gone_is_trained_again_first(run, copied, capsys):
    code, printed = reproduce(run, "c0002", capsys)
    assert code == 0 and "weights of e0002, from which c0002 started, are gone: training it again first" in printed.out
    tamper(copied, "e0002", 1, lambda line: line.update(score=0.75))
    code, printed = reproduce(copied, "c0002", capsys)
    assert code == 1 and "c0002: different; first, its parent e0002, epoch 1: score was 0.75" in printed.out


def test_trial_whose_parent_ends_early_here_is_refused_in_one_line(copied, capsys):
    lines = [json.loads(line) for line in (copied / "trials.jsonl").read_text().splitlines()]
    begun = next(line for line in lines if line["trial_id"] == "e0002")
    begun["config"] |= {"optim/lr": 1e30, "optim/name": "sgd", "optim/clip_norm": 0.0}  # its training diverges
    (copied / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, printed = reproduce(copied, "c0002", capsys)
    assert code == 2 and printed.err.count("\n") == 1
    assert printed.err.startswith("error: c0002 has no weights to start from: its parent e0002, it failed, ")


def test_tampered_record_is_different_and_the_figure_named(copied, capsys):
    tamper(copied, "e0002", 2, lambda line: line.update(iou=line["iou"] + 0.25))
    code, printed = reproduce(copied, "e0002", capsys)
    assert code == 1 and ", 0.25 apart" in printed.out
    assert "epoch 1: same" in printed.out and "epoch 2: different, iou was" in printed.out
    assert "e0002: different; first, epoch 2: iou was" in printed.out


@pytest.mark.parametrize(
    ("trial_id", "message"),
    [
        ("e0007", "'e0007' is not a trial of"),
        ("e0009", "e0009 failed (worker died), which training cannot reproduce"),
    ],
)
def test_trial_that_cannot_be_repeated_is_refused_in_one_line(run, capsys, trial_id, message):
    code, printed = reproduce(run, trial_id, capsys)
    assert code == 2 and message in printed.err and printed.err.count("\n") == 1
    if trial_id == "e0007":
        assert "similar: e000" in printed.err


def test_record_without_readings_is_refused(copied, capsys):
    tamper(copied, "e0002", 1, lambda line: line.pop("replay"))
    code, printed = reproduce(copied, "e0002", capsys)
    assert code == 2 and "contains no clock readings" in printed.err


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("trials.jsonl", lambda text: b"\x89PNG\xff\n", "trials.jsonl: cannot be read"),
        ("trials.jsonl", lambda text: b"[1]\n", "trials.jsonl: a line is not a JSON object"),
        (
            "trials.jsonl",
            lambda text: text.replace(b'"seed"', b'"sown"'),
            "damaged or of another version (seed missing)",
        ),
        (
            "trials.jsonl",
            lambda text: text.replace(b"model/width", b"model/breadth"),
            "e0002 was trained by another version",
        ),
        ("reports.jsonl", lambda text: b"\x89PNG\xff\n", "reports.jsonl: cannot be read"),
        ("reports.jsonl", lambda text: text.replace(b'"epochs"', b'"laps"'), "(epochs missing); restore it"),
        ("reports.jsonl", lambda text: text.replace(b'"threads"', b'"strands"'), "(threads missing); restore it"),
        ("reports.jsonl", lambda text: text.replace(b'"px"', b'"side"'), "(px missing); restore it"),
        ("reports.jsonl", lambda text: text.replace(b'"refine"', b'"polish"'), "trained by another version"),
        ("run.json", lambda text: text.replace(b'"began_s"', b'"began"'), "run.json: damaged or of another version"),
        ("run.json", lambda text: text.replace(b'"folder"', b'"place"'), "does not record the training data"),
    ],
)
def test_damaged_records_are_refused_in_one_line(file, change, message, copied, capsys):
    path = copied / file
    path.write_bytes(change(path.read_bytes()))
    code, printed = reproduce(copied, "e0002", capsys)
    assert code == 2 and message in printed.err and printed.err.count("\n") == 1, printed.err


def test_trial_of_a_run_that_lost_another_one_in_a_power_failure_is_reproduced(copied, capsys):
    path = copied / "trials.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[1:]))
    assert reproduce(copied, "e0002", capsys)[0] == 0
    assert reproduce(copied, "e0001", capsys)[0] == 2


def test_fields_that_another_version_wrote_beside_are_passed_over(copied, capsys):
    path = copied / "trials.jsonl"
    path.write_text(path.read_text().replace('"seed"', '"mood": "fair", "seed"'))
    assert reproduce(copied, "e0002", capsys)[0] == 0


def test_missing_run_and_changed_data_are_refused(copied, tmp_path, capsys):
    code, printed = reproduce(tmp_path / "nowhere", "e0001", capsys)
    assert code == 2 and "no run there" in printed.err
    content = json.loads((copied / "run.json").read_text())
    content["versions"]["torch"] = "1.0"
    content["data"]["fingerprint"] = "another"
    (copied / "run.json").write_text(json.dumps(content))
    code, printed = reproduce(copied, "e0001", capsys)
    assert code == 2 and "has changed since the run began" in printed.err
    assert "note: torch was 1.0, is" in printed.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_reported(run, capsys):
    code, printed = reproduce(run, "e0001", capsys, "--device", "cuda")
    assert code == 2 and "--device cpu" in printed.err


def test_replay_is_in_the_reports_and_not_in_trials_csv(run):
    line = json.loads((run / "reports.jsonl").read_text().splitlines()[0])
    assert line["replay"].keys() == {"clock", "threads", "plan"}
    assert "replay" not in (run / "trials.csv").read_text().splitlines()[0].split(",")
    assert "replay" not in TrialTable.load(run).records["e0001"].metrics


def test_failed_trial_reports_its_replay_to_ray(run, config, monkeypatch):
    from search.config.stages import Stage
    from search.tuning.ray import trainable
    from search.tuning.ray.trial_spec import StageContext, build_trial_spec

    reported = []
    monkeypatch.setattr(trainable.tune, "report", lambda result, checkpoint=None: reported.append(result))
    stage = Stage(name="explore", kind="search", fraction=1.0, px=PX, epochs=2)
    data = RunRecords(run).load_data(RunRecords(run).load_history("e0001"))
    context = StageContext(stage=stage, data=data, deadline=None, limit_s=None, threads=1, device="cpu")
    wild = dataclasses.replace(config.optim, name="sgd", lr=1e30, clip_norm=0.0, momentum=0.0)
    entry = build_trial_spec(context, 1, dataclasses.replace(config, optim=wild), seed=0)
    trainable.train_trial({"spec": entry})
    assert reported[-1]["failed"].startswith("loss is") and reported[-1]["replay"].keys() == {
        "clock",
        "threads",
        "plan",
    }


def test_differences_name_both_values_and_their_distance():
    recorded = {"epochs": 2, "score": 0.5, "last": True, "train_s": 1.0}
    metrics = {"epoch": 2, "score": 0.25, "last": False, "train_s": 9.0, "iou": 0.1}
    assert find_differences(recorded, metrics) == [
        "score was 0.5, is 0.25, 0.25 apart",
        "last was True, is False",
        "iou was None, is 0.1",
    ]


def test_command_line_needs_neither_ray_nor_optuna(run):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['fit', {str(run)!r}, 'e0002']\n"
        "try:\n    runpy.run_module('search.reproduce', run_name='__main__')\n"
        "finally:\n    assert not {'ray', 'optuna'} & sys.modules.keys()"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "e0002: the same, bit for bit" in process.stdout
