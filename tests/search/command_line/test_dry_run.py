"""What a run foretells of itself; the measuring is left out but for once."""

import io
import re
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from data.data_module import DataModule
from data.pack.shards import build_record_type
from models.cost import Throughput
from search.command_line import dry_run as plan
from search.command_line.dry_run import Machine, estimate_stages, judge_budget, measure_decoding_speed, print_table
from search.config.budget import parse_budget
from search.config.constraints import Constraints
from search.config.options import RunOptions
from search.config.stages import build_stages
from search.run import main
from search.tuning.ray.resources import Cluster

TWO = Cluster(cpus=2, node_cpus=2, gpus=0, node_memory_mib=0.0, dashboard="", local=True)
MACHINE = Machine(cluster=TWO, alone=Throughput(2.8e10), together=Throughput(2.1e10), decoded=500.0)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(plan, "DRAWS", 6)
    monkeypatch.setattr("data.data_module.MIN_TRAIN", 3)  # the tiny data set stands for a large one


@pytest.fixture
def estimate(tiny_dataset):
    """Return a function that estimates a run of fifteen minutes, or of other options."""
    data_module = DataModule(tiny_dataset, seed=0)

    def make(budget="15m", machine=MACHINE, **options):
        return estimate_stages(RunOptions(budget=parse_budget(budget), **options), data_module, machine)

    return make


def test_every_stage_but_the_repeats_has_a_line_within_the_budget(estimate):
    lines = estimate()
    assert [line.stage.name for line in lines] == ["explore", "confirm", "final"]
    assert sum(line.stage_s for line in lines) < 900
    _, confirm, final = lines
    images = [line.allocation.train_images for line in lines]
    assert images == [3, 32, 32]  # a tenth of the tiny data set, then all
    assert confirm.trials == confirm.stage.top_k + confirm.stage.controls and final.trials == final.stage.top_k
    assert all(0 < line.epochs <= line.stage.epochs and line.disk_bytes > 0 for line in lines)


def test_little_time_is_planned_as_a_race_and_one_training(estimate):
    slow = replace(MACHINE, alone=Throughput(1.4e10), together=Throughput(1e9))
    race, final = estimate(budget="5m", machine=slow)
    assert (race.stage.name, race.stage.px, final.stage.name) == ("explore", 160, "final")
    assert final.stage_s > 2 * race.stage_s
    assert race.trials >= race.stage.full_trials
    _, two = estimate(budget="5m", machine=slow, stage={"final": {"top_k": 2}})
    assert (final.trials, two.trials) == (1, 2) and final.epochs == pytest.approx(2 * two.epochs)


def test_study_s_recipes_are_planned_with_all_architectures(estimate):
    assert estimate(budget="5m")[0].stage.narrow and not estimate(budget="5m", first="study")[0].stage.narrow


def test_more_time_and_faster_machines_mean_more_trials(estimate):
    def trials(**changes):
        return estimate(**changes)[0].trials

    assert trials(budget="30m") > 1.5 * trials()
    assert trials(machine=replace(MACHINE, cluster=replace(TWO, cpus=4, node_cpus=4))) > 1.5 * trials()


def test_budget_of_trials_is_taken_at_its_word_and_its_time_foretold(estimate):
    few, many = (estimate(budget=text)[0] for text in ("10trials", "40trials"))
    assert (few.trials, many.trials) == (10, 40) and many.stage_s == pytest.approx(4 * few.stage_s)


def test_stated_configurations_are_trained_each_to_its_end(estimate):
    from search.config.recipes import build_recipe

    configs = (build_recipe("unet", width=4), build_recipe("residual", width=4))
    explore = estimate(configs=configs)[0]
    assert explore.trials == 2


def test_plan_is_a_table_with_hours_and_disk(estimate):
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(estimate(), parse_budget("10m"), MACHINE, console)
    text = console.export_text()
    assert [row.split()[4:6] for row in text.splitlines()[1:4]] == [["about", str(line.trials)] for line in estimate()]
    assert "explore" in text and "10 min in total on 2 workers, 0.33 device hours" in text and "500 triplets/s" in text
    alone = replace(MACHINE, cluster=replace(MACHINE.cluster, cpus=1, node_cpus=1))
    print_table(estimate(), parse_budget("10m"), alone, console)
    assert "on 1 worker, " in console.export_text()


def test_disk_is_compared_with_what_is_free(estimate):
    console = Console(record=True, width=200, file=io.StringIO())
    print_table(estimate(), parse_budget("10m"), MACHINE, console, free=5e9)
    assert re.search(r"about \d+ MB of disk \(5.0 GB free\)", console.export_text())


def test_budget_too_small_for_the_final_stage_is_judged_with_one_that_would_do(estimate):
    slow = replace(MACHINE, alone=Throughput(1e7), together=Throughput(1e7))
    judged = judge_budget(estimate(budget="1m", machine=slow))
    assert re.match(r"the final stage has time for only \d\.\d epochs: use --budget \w+, ", judged)
    enough = judged.split("--budget ")[1].split(",")[0]
    assert judge_budget(estimate(budget=enough, machine=slow)) == ""
    larger = judge_budget(estimate(budget="1m", machine=slow), parse_budget(enough).wall_s)
    assert parse_budget(larger.split("--budget ")[1].split(",")[0]).wall_s > parse_budget(enough).wall_s


def spoilt(dataset, folder, count):
    """A copy of which so many training images are no pictures."""
    copy = shutil.copytree(dataset, folder / f"spoilt{count}")
    for triplet in DataModule(copy, seed=0).splits.train[:count]:
        triplet.image.write_bytes(b"no picture")
    return copy


def test_decoding_speed_notes_what_cannot_be_used(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "DECODING_S", 0.5)
    data_module = DataModule(spoilt(tiny_dataset, tmp_path, 2), seed=0)
    assert measure_decoding_speed(data_module, 32) > 0
    assert (data_module.left_out.to_dict()["triplets"], data_module.left_out.to_dict()["of"]) == (2, 32)


@pytest.mark.parametrize(("bad", "code", "says"), [(2, 0, "left out: 2 of 32"), (9, 2, "--allow-bad")])
def test_dry_run_says_what_cannot_be_used_and_when_a_run_would_stop(
    tiny_dataset, tmp_path, monkeypatch, capsys, bad, code, says
):
    def measured(data_module, workers, px, pool):
        data_module.pack("train", 32)
        return MACHINE

    monkeypatch.setattr(plan, "measure", measured)
    data = spoilt(tiny_dataset, tmp_path, bad)
    assert main(["--budget", "10m", "--data", str(data), "--dry-run"]) == code
    said = capsys.readouterr()
    assert says in (said.err if code else said.out) and ("device hours" in said.out) == (code == 0)


def test_disk_is_that_of_all_images_at_the_final_size_once_and_of_the_kept_weights(estimate, tiny_dataset):
    explore, confirm, final = estimate(budget="40trials")
    images = sum(DataModule(tiny_dataset, seed=0).sizes().values())
    packed = [line.disk_bytes - line.trials * plan.RECORD_BYTES for line in (explore, confirm, final)]
    one = packed[2] / final.trials  # weights of a model
    assert one > 0 and packed[1] == pytest.approx(
        confirm.trials * one + images * build_record_type(160).itemsize, rel=0.01
    )
    count = explore.allocation.train_images + explore.allocation.val_images
    assert packed[0] == pytest.approx(16 * one + count * build_record_type(80).itemsize, rel=0.01)


def test_dry_run_prints_the_plan_and_writes_nothing(tiny_dataset, tmp_path, monkeypatch, capsys):
    decoded_px = []
    monkeypatch.setattr(plan, "measure", lambda data_module, workers, px, pool: decoded_px.append(px) or MACHINE)
    monkeypatch.chdir(tmp_path)
    arguments = ["--budget", "10m", "--px", "96", "--data", str(tiny_dataset), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 0 and decoded_px == [96]
    assert "device hours" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


def test_score_is_explained_by_the_labels_of_the_data(tiny_dataset, partial_datasets, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan, "measure", lambda data_module, workers, px, pool: MACHINE)
    masks_only = partial_datasets["mask_only"]
    options = ["--budget", "10m", "--out", str(tmp_path / "out"), "--set", "score.mask=0.8", "--dry-run"]
    for folder, formula in (
        (tiny_dataset, "score = 0.8 · IoU of the mask + 0.2 · (1 - RMSE"),
        (masks_only, "no depth is"),
    ):
        assert main([*options, "--data", str(folder)]) == 0
        assert formula in capsys.readouterr().out


def test_dry_run_of_a_cluster_is_refused_in_one_line(tiny_dataset, capsys):
    options = ["--budget", "10m", "--data", str(tiny_dataset), "--dry-run", "--address", "127.0.0.1:1"]
    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --dry-run measures this machine, not the cluster") and error.count("\n") == 1


def test_size_of_the_images_decides_the_plan_and_the_constraints(tiny_dataset, monkeypatch):
    seen = []
    monkeypatch.setattr(plan, "Constraints", lambda **limits: seen.append(limits["px"]) or Constraints(**limits))
    options = RunOptions(budget=parse_budget("2h"), px=240)
    estimates = estimate_stages(options, DataModule(tiny_dataset, seed=0), MACHINE)
    assert estimates[0].stage.px == 120 and estimates[-1].stage.px == 240 and seen == [240]


def test_constraints_are_those_of_an_image_of_the_final_stage(tiny_dataset, monkeypatch):
    seen = []
    larger = tuple(replace(stage, px=2 * stage.px) for stage in build_stages())
    monkeypatch.setattr(RunOptions, "build_stages", lambda *_: larger)
    monkeypatch.setattr(plan, "Constraints", lambda **limits: seen.append(limits) or Constraints(**limits))
    options = RunOptions(budget=parse_budget("10m"), max_macs=1e12)
    estimate_stages(options, DataModule(tiny_dataset, seed=0), MACHINE)
    assert seen == [{"px": 320, "max_macs": 1e12}]
