"""Preparation of stages, on a cluster and a clock made up for the test; no Ray is started."""

import time
from dataclasses import replace

import pytest

from data.data_module import DataModule
from models.cost import Throughput
from search.config.budget import parse_budget
from search.config.constraints import Constraints
from search.config.recipes import build_recipe
from search.config.stages import Stage
from search.study.search_space import LR_RANGES
from search.study.space_settings import read_space
from search.training.lr_finder import RangeTest, find_steepest_slope
from search.tuning import stage_setup as stages
from search.tuning.ray.resources import Cluster, sum_up_nodes
from search.tuning.ray.searchers import FINISHED
from search.tuning.stage_setup import (
    SPARE,
    RunSetup,
    build_continued_specs,
    build_fixed_specs,
    build_resumed_specs,
    build_search,
    build_stage_context,
    centre_lr_ranges,
    count_repeats,
)
from tests.trials import make_record


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Let the tiny data set stand for a large one."""
    monkeypatch.setattr("data.data_module.MIN_TRAIN", 3)


EXPLORE = Stage(name="explore", kind="search", fraction=0.5, px=32, epochs=2)
REPEAT = Stage(name="repeat", kind="repeat", fraction=1.0, px=32, epochs=2, top_k=2, repeats=2)
CONFIRM = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=2, top_k=3)


@pytest.fixture
def make_setup(tiny_dataset, clock):
    def make(*, left_s=100.0, workers=2, **more):
        end = None if left_s is None else time.monotonic() + left_s
        stages = dict.fromkeys(("explore", "confirm", "final", "repeat"), end)
        return RunSetup(
            data_module=DataModule(tiny_dataset, seed=0),
            cluster=Cluster(cpus=workers, node_cpus=workers, gpus=0, node_memory_mib=1000, dashboard="", local=True),
            throughput=Throughput(1e12),
            budget=more.pop("budget", parse_budget("5m")),
            deadlines=None if left_s is None else stages,
            seed=3,
            constraints=more.pop("constraints", Constraints(px=160)),
            **more,
        )

    return make


def test_trials_of_a_stage_share_its_time_in_rounds(make_setup):
    one, five = (build_stage_context(make_setup(), CONFIRM, trials=trials) for trials in (1, 5))
    assert one.limit_s == pytest.approx(100) and five.limit_s == pytest.approx(100 / 3)
    assert (one.threads, five.threads) == (2, 1)
    assert one.memory_mib == pytest.approx(600) and five.memory_mib == pytest.approx(300)


def test_trial_of_a_search_takes_a_part_of_its_time(make_setup):
    context = build_stage_context(make_setup(), replace(EXPLORE, early_stopping=True), trials=2)
    assert context.limit_s == pytest.approx(100 * 2 / EXPLORE.full_trials) and context.threads == 1
    assert len(context.data.train) == 16


def test_stage_whose_time_is_over_still_gives_its_trials_a_moment(make_setup):
    assert build_stage_context(make_setup(left_s=-50.0), CONFIRM, trials=2).limit_s == 1.0


def test_stage_that_goes_on_keeps_its_images_and_the_time_of_its_trials(make_setup):
    recorded = {"train_images": 9, "limit_s": 4.5}
    context = build_stage_context(make_setup(), EXPLORE, trials=2, recorded=recorded)
    assert len(context.data.train) == 9 and context.limit_s == 4.5


def test_fixed_trials_are_numbered_and_seeded(make_setup):
    configs = [build_recipe("quick_unet"), build_recipe("quick_residual")]
    given = make_setup()
    specs = build_fixed_specs(given, build_stage_context(given, EXPLORE, trials=2), configs)
    assert specs[0].trial_id == "e0001" and specs[0].config == configs[0]


def test_budget_without_a_time_limits_no_trial_and_cuts_no_images(make_setup):
    given = make_setup(left_s=None)
    for stage, trials in ((EXPLORE, 2), (CONFIRM, 5)):
        context = build_stage_context(given, stage, trials=trials)
        assert context.deadline is None and context.limit_s is None and context.compute_limit_s() is None


def test_stage_that_was_left_early_leaves_its_rest_to_the_next(make_setup):
    """The moments stay where they are, so a stage that begins early has longer."""
    given = make_setup(left_s=100.0)
    assert build_stage_context(given, CONFIRM, trials=2).limit_s == pytest.approx(100)
    given = make_setup(left_s=40.0)
    assert build_stage_context(given, CONFIRM, trials=2).limit_s == pytest.approx(40)


def parent(number):
    return make_record(f"c{number:04d}", config=build_recipe("quick_unet").flatten(), seed=5)


def test_repeats_begin_with_the_same_weights_and_have_seeds_of_their_own(make_setup):
    given = make_setup()
    context = build_stage_context(given, REPEAT, trials=3)
    twice = build_continued_specs(given, context, [parent(1), parent(1), parent(2)], {"c0001": "w1", "c0002": "w2"})
    assert [(e.trial_id, e.parent_id, e.parent) for e in twice] == [
        ("r0001", "c0001", "w1"),
        ("r0002", "c0001", "w1"),
        ("r0003", "c0002", "w2"),
    ]
    assert len({e.seed for e in twice}) == 3 and twice[0].config == twice[1].config
    begun = [make_record("r0001"), make_record("r0003")]  # r0002 was about to begin when the run was killed
    later = build_continued_specs(given, context, [parent(1), parent(1)], {"c0001": "w1"}, begun=begun)
    assert [e.trial_id for e in later] == ["r0002", "r0004"] and later[0].seed == twice[1].seed


def final(fit_s, devices=1.0):
    return make_record("f0001", parent_id="c0001", status="completed", metrics={"device_s": fit_s * devices})


@pytest.mark.parametrize(
    ("left_s", "workers", "wanted", "count"),
    [
        (-5.0, 2, 4, 0),  # the time is over
        (9.0, 2, 4, 0),  # of a training of 20 core seconds not even one, with two cores, comes to its end
        (14.0, 2, 4, 1),  # one, with both cores
        (26.0, 2, 4, 2),  # two, with a core each
        (50.0, 2, 4, 4),  # two rounds of two
        (26.0, 4, 4, 4),  # with four cores, four at once
        (1000.0, 2, 4, 4),
        (None, 2, 4, 4),  # no deadline, no limit
    ],
)
def test_as_many_repeats_as_the_time_allows_to_come_to_their_end(left_s, workers, wanted, count, make_setup):
    given = make_setup(left_s=left_s, workers=workers)
    assert count_repeats(given, REPEAT, [final(20.0), final(5.0, 2.0)], wanted) == count
    assert SPARE > 1


def test_what_took_two_cores_takes_twice_as_long_on_one(make_setup):
    for fit_s, devices in ((20.0, 1.0), (10.0, 2.0)):
        assert count_repeats(make_setup(left_s=26.0), REPEAT, [final(fit_s, devices)], 2) == 2
    assert count_repeats(make_setup(left_s=26.0), REPEAT, [final(20.0, 2.0)], 2) == 1


def test_nothing_finished_repeats_nothing(make_setup):
    assert count_repeats(make_setup(), REPEAT, [], 0) == 0


def test_resumed_trials_keep_their_seed_name_and_checkpoint(make_setup):
    context = build_stage_context(make_setup(), CONFIRM, trials=2)
    record = parent(3)
    record.parent_id = "e0001"
    spec, anew = build_resumed_specs(context, [record, parent(4)], {"c0003": "own", "e0001": "parent"})
    assert (spec.trial_id, spec.seed, spec.own, spec.parent) == ("c0003", 5, "own", "parent")
    assert (anew.trial_id, anew.own, anew.parent) == ("c0004", None, None)


def test_search_keeps_the_constraints_the_sampler_and_the_number_of_trials(make_setup, tmp_path):
    few, constraints = parse_budget("2trials"), Constraints(px=160, max_params=100_000)
    given = make_setup(left_s=None, constraints=constraints, sampler="random", budget=few)
    search = build_search(given, build_stage_context(given, EXPLORE, trials=2), tmp_path / "study.journal")
    asked = [search.suggest(name) for name in "abc"]
    assert [spec["spec"].trial_id for spec in asked[:2]] == ["e0001", "e0002"] and asked[2] == FINISHED
    for spec in asked[:2]:
        assert given.constraints.compute_excess(spec["spec"].config)["params"] <= 0
    assert type(search.study.sampler).__name__ == "RandomSampler"


def test_points_are_not_tried_again_although_the_journal_is_lost(make_setup, tmp_path):
    given = make_setup()
    context, config = build_stage_context(given, EXPLORE, trials=2), build_recipe("quick_unet").flatten()
    past = [make_record("e0001", stage="explore", status="failed", config=config)]
    assert waiting(build_search(given, context, tmp_path / "study.journal", past=past)) == []


def waiting(search):
    return [t for t in search.study.get_trials(deepcopy=False) if t.state.name == "WAITING"]


def test_points_are_tried_once_although_the_run_is_killed_before_its_first_trial(make_setup, tmp_path):
    given = make_setup()
    context = build_stage_context(given, EXPLORE, trials=2)
    first = len(waiting(build_search(given, context, tmp_path / "study.journal")))
    assert first == len(waiting(build_search(given, context, tmp_path / "study.journal"))) > 0


def test_search_closes_early_enough_for_its_last_trials(make_setup, tmp_path):
    given = make_setup(left_s=1.5)
    search = build_search(given, build_stage_context(given, EXPLORE, trials=2), tmp_path / "study.journal")
    assert search.suggest("a") == FINISHED


def test_fixed_trials_that_have_begun_are_not_begun_again_whatever_their_order(make_setup):
    given = make_setup()
    specs = build_fixed_specs(
        given,
        build_stage_context(given, EXPLORE, trials=3),
        [build_recipe("quick_unet")] * 3,
        begun=[make_record("e0002")],
    )
    assert [spec.trial_id for spec in specs] == ["e0001", "e0003"]


def found(count, *, at=-2.0):
    """Return a range test of `count` steps whose loss falls around a rate of 10 ** at."""
    rates = [10 ** (-5 + 5 * i / count) for i in range(count)]
    losses = [1.0 / (1 + (rate / 10**at) ** 2) for rate in rates]
    return RangeTest(rates=rates, losses=losses, steepest=find_steepest_slope(rates, losses))


@pytest.mark.parametrize(
    ("test", "centred"),
    [(found(100), True), (found(30), False), (RangeTest(rates=[0.1] * 100, losses=[1.0] * 100, steepest=None), False)],
)
def test_range_is_centred_where_a_test_of_enough_steps_falls(test, centred, make_setup, monkeypatch):
    monkeypatch.setattr(stages, "run_range_test", lambda *_, **__: test)
    given = make_setup()
    low, high = centre_lr_ranges(given, build_stage_context(given, EXPLORE, trials=2))["adamw"]
    assert ((low, high) != LR_RANGES["adamw"]) == centred
    assert high / low == pytest.approx(LR_RANGES["adamw"][1] / LR_RANGES["adamw"][0])
    if centred:
        assert (low * high) ** 0.5 == pytest.approx(test.suggestion, rel=0.01)


@pytest.mark.parametrize(
    ("given", "tested"),
    [
        ({}, {"adamw", "sgd"}),
        ({"optim.name": "adamw"}, {"adamw"}),
        ({"adamw.lr": 0.01}, {"sgd"}),
        ({"optim.lr": 0.01}, set()),
    ],
)
def test_only_optimizers_and_ranges_of_the_search_are_tested(given, tested, make_setup, monkeypatch):
    monkeypatch.setattr(stages, "run_range_test", lambda *_, **__: found(100))
    given = make_setup(space=read_space(given))
    assert centre_lr_ranges(given, build_stage_context(given, EXPLORE, trials=2)).keys() == tested


def test_range_is_not_moved_out_of_what_the_space_allows(make_setup, monkeypatch):
    monkeypatch.setattr(stages, "run_range_test", lambda *_, **__: found(100, at=-4.0))
    given = make_setup()
    low, high = centre_lr_ranges(given, build_stage_context(given, EXPLORE, trials=2))["adamw"]
    assert (low * high) ** 0.5 == pytest.approx(LR_RANGES["adamw"][0])


def test_trials_of_a_search_share_gpus_and_those_of_the_last_stage_have_their_own(make_setup):
    given = make_setup()
    nodes = sum_up_nodes([{"CPU": 16, "GPU": 2, "memory": 2**34}] * 2)
    throughput = Throughput(1.4e13, 8e-6)
    machine = Cluster(**nodes, dashboard="", local=False).share_gpus(throughput, 140_000)
    given = replace(given, cluster=machine, throughput=throughput)
    explore = build_stage_context(given, EXPLORE, trials=machine.workers)
    final = build_stage_context(given, CONFIRM, trials=3)
    assert explore.reserved == {"CPU": 1, "GPU": 0.1428} and final.reserved == {"CPU": 1, "GPU": 1}
    assert (explore.device, explore.devices, explore.memory_mib) == ("cuda", 1 / 7, None)
    assert explore.limit_s == pytest.approx(100)  # one round: four GPUs with seven trials each
    assert final.throughput == throughput and final.limit_s == pytest.approx(100)
