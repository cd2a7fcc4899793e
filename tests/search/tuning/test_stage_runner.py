"""The stages of a run, on records made up for the test: promotions, restarts and what is recorded."""

import dataclasses
import time

import pytest

from data.data_module import DataModule
from models.cost import Throughput
from search.config.budget import parse_budget
from search.config.constraints import Constraints
from search.config.recipes import build_recipe
from search.config.stages import Stage
from search.records.run_state import RunState, resume_run_state
from search.records.trials import TrialTable
from search.study.search_space import LR_RANGES
from search.tuning.rank_correlation import correlate_ranks
from search.tuning.ray.checkpoints import CheckpointStore
from search.tuning.ray.resources import Cluster
from search.tuning.ray.searchers import FINISHED
from search.tuning.stage_runner import StageRunner
from search.tuning.stage_setup import RunSetup
from tests.trials import make_record

EXPLORE = Stage(name="explore", kind="fixed", fraction=0.5, px=32, epochs=2, share=0.5)
CONFIRM = Stage(name="confirm", kind="promote", fraction=1.0, px=32, epochs=2, share=0.2, top_k=2, controls=1)
FINAL = Stage(name="final", kind="promote", fraction=1.0, px=32, epochs=2, share=0.3, top_k=2)
REPEAT = Stage(name="repeat", kind="repeat", fraction=1.0, px=32, epochs=2, top_k=2, repeats=2)
STAGES = (EXPLORE, CONFIRM, FINAL, REPEAT)
BUDGET = parse_budget("5m")


class RunConsole:
    """Keeps the lines that are printed."""

    def __init__(self):
        self.lines = []

    def print(self, line):
        self.lines.append(line)

    def begin(self, stage, what, deadline, end):
        self.lines.append(f"{stage}: {what}")

    def finish(self):
        pass


class Run:
    """Stages over a folder, and trials that end as the test decides."""

    def __init__(self, folder, dataset, *, left_s=1000.0, run_state=None):
        end = time.monotonic() + left_s
        self.folder, self.console, self.is_stopped = folder, RunConsole(), False
        self.table, self.checkpoints = TrialTable.load(folder), CheckpointStore(folder / "ray", seed=0)
        self.run_state = run_state or RunState(folder=folder, options={"budget": {}}, began=time.monotonic())
        setup = RunSetup(
            data_module=DataModule(dataset, seed=0),
            cluster=Cluster(cpus=2, node_cpus=2, gpus=0, node_memory_mib=1000, dashboard="", local=True),
            throughput=Throughput(1e12),
            budget=BUDGET,
            deadlines={stage.name: end for stage in STAGES},
            seed=0,
            constraints=Constraints(px=160),
        )
        self.runner = StageRunner(
            STAGES,
            setup,
            folder=folder,
            configs=[build_recipe("quick_unet")] * 4,
            find_lr=False,
            run_state=self.run_state,
            table=self.table,
            checkpoints=self.checkpoints,
            console=self.console,
            stopped=lambda: self.is_stopped,
        )
        self.stages = self.runner.open_searchers()

    def again(self, *, extended=False):
        """Return the run as another process resumes it."""
        self.run_state.write()
        content = self.run_state.to_dict() | {"wall_s": self.run_state.used_s + 1}
        run_state = resume_run_state(self.folder, content, now=time.monotonic(), options={}, extended=extended)
        later = Run(self.folder, self.runner.setup.data_module.dataset.root, run_state=run_state)
        for trial_id in self.checkpoints:
            later.checkpoints.put(trial_id, self.checkpoints[trial_id])
        return later

    def handed(self, searcher):
        """Return the trials that a searcher hands out."""
        found = []
        while (suggested := searcher.suggest(str(len(found)))) != FINISHED:
            found.append(suggested["spec"])
        return found

    def begin(self, spec):
        config = build_recipe("quick_unet").flatten()
        about = {"stage": spec.context.stage.name, "parent_id": spec.parent_id, "seed": spec.seed}
        self.table.start(make_record(spec.trial_id, config=config, started_s=self.run_state.used_s, **about))

    def end(self, spec, score, status="completed"):
        if spec.trial_id not in self.table.records:
            self.begin(spec)
        metrics = {"score": score, "epochs": 2, "fit_s": 1.0, "device_s": 1.0, "px": 32, "params": 100}
        self.table.report(spec.trial_id, metrics)
        self.table.finish(spec.trial_id, status)
        self.checkpoints.put(spec.trial_id, spec.trial_id)

    def run_stage(self, scores, status="completed"):
        """Run the next stage to the end of its trials; return them."""
        specs = self.handed(next(self.stages))
        for spec, score in zip(specs, scores, strict=True):
            self.end(spec, score, status)
        return specs


@pytest.fixture
def run(tmp_path, tiny_dataset, clock):
    return Run(tmp_path, tiny_dataset)


def names(specs):
    return [(spec.trial_id, spec.parent_id) for spec in specs]


def stage_of(run, name):
    return next(stage for stage in reversed(run.run_state.stages) if stage["name"] == name)


def run_to_finals(run):
    """Run the stages up to the finals."""
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.run_stage([0.5, 0.6, 0.2])
    return run.run_stage([0.7, 0.8])


def test_configurations_of_the_user_that_are_too_slow_for_one_step_are_left_out_and_named(run):
    slow = build_recipe("resnet18_ed")
    run.runner.configs = [build_recipe("quick_unet"), slow]
    run.runner.setup = dataclasses.replace(run.runner.setup, throughput=Throughput(2e6))
    assert [trial_id for trial_id, _ in names(run.handed(next(run.stages)))] == ["e0001"]
    assert run.console.lines[-1] == (
        "  e0002 (resnet18_ed of width 16) is not trained: the explore stage is too short for one step of it"
    )


def test_configurations_of_the_user_are_trained_if_all_are_too_slow(run):
    run.runner.setup = dataclasses.replace(run.runner.setup, throughput=Throughput(1e3))
    assert len(run.handed(next(run.stages))) == 4


def test_stages_follow_each_other_and_the_finalists_are_repeated_with_other_seeds(run):
    assert names(run.run_stage([0.1, 0.2, 0.3, 0.4])) == [(f"e000{i}", "") for i in (1, 2, 3, 4)]
    confirm = run.run_stage([0.5, 0.6, 0.2])
    assert names(confirm)[:2] == [("c0001", "e0004"), ("c0002", "e0003")] and confirm[2].parent_id in ("e0001", "e0002")
    finals = run.run_stage([0.7, 0.8])
    assert names(finals) == [("f0001", "c0002"), ("f0002", "c0001")]
    repeats = run.run_stage([0.6, 0.6, 0.6, 0.6])
    best_first = [("r0001", "c0001"), ("r0002", "c0002"), ("r0003", "c0001"), ("r0004", "c0002")]
    assert names(repeats) == best_first
    assert [e.parent for e in repeats] == ["c0001", "c0002", "c0001", "c0002"]
    assert len({e.seed for e in [*repeats, *finals]}) == 6
    assert next(run.stages, None) is None
    assert [stage["trials"] for stage in run.run_state.stages] == [4, 3, 2, 4]


def test_search_without_a_feasible_network_fails_with_its_constraint(run, monkeypatch):
    monkeypatch.setattr("search.tuning.ray.searchers.MAX_REJECTIONS", 2)
    setup = dataclasses.replace(run.runner.setup, constraints=Constraints(px=160, max_params=1.0))
    run.runner.setup, run.runner.stages = setup, (dataclasses.replace(EXPLORE, kind="search"), *STAGES[1:])
    assert run.run_stage([]) == [] and next(run.stages, None) is None
    assert run.runner.failure == "--max-params 1: none of 2 suggested networks meets this; relax it"
    assert not run.run_state.is_closed("explore")


def test_only_tested_ranges_are_printed_and_the_others_keep_their_defaults(run, monkeypatch):
    monkeypatch.setattr("search.tuning.stage_runner.centre_lr_ranges", lambda *_: {"sgd": (0.05, 0.1)})
    run.runner.find_lr = True
    assert run.runner._choose_lr_ranges(None) == LR_RANGES | {"sgd": (0.05, 0.1)}
    assert run.console.lines == ["  learning rates of sgd: 5.0e-02 to 1.0e-01, centred"]


def test_rank_correlation_is_recorded_except_for_repeats(run):
    run_to_finals(run)
    run.run_stage([0.6] * 4)
    assert next(run.stages, None) is None
    children = sorted(run.table.list_ended("confirm"), key=lambda r: -r.score)
    parents = [run.table.records[r.parent_id].score for r in children]
    correlation = stage_of(run, "confirm")["rank_correlation_with_previous_stage"]
    assert correlation == correlate_ranks(parents, [r.score for r in children]) and correlation["trials"] == 3
    assert stage_of(run, "final")["rank_correlation_with_previous_stage"] is None  # of two trials
    assert "rank_correlation_with_previous_stage" not in stage_of(run, "explore") | stage_of(run, "repeat")


def test_finalists_that_the_clock_has_cut_are_not_repeated(run):
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.run_stage([0.5, 0.6, 0.2])
    first, second = run.handed(next(run.stages))
    run.end(first, 0.9, "ended_by_budget")
    run.end(second, 0.7)
    assert names(run.run_stage([0.6, 0.6])) == [("r0001", second.parent_id), ("r0002", second.parent_id)]


def test_nothing_is_repeated_where_no_finalist_came_to_its_end_or_no_time_is_left(run, tmp_path, tiny_dataset):
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.run_stage([0.5, 0.6, 0.2])
    run.run_stage([0.7, 0.8], "ended_by_budget")
    assert next(run.stages, None) is None and len(run.run_state.stages) == 3
    (tmp_path / "late").mkdir()
    late = Run(tmp_path / "late", tiny_dataset)
    run_to_finals(late)
    over = dict.fromkeys(late.runner.setup.deadlines, 0.0)
    late.runner.setup = dataclasses.replace(late.runner.setup, deadlines=over)
    assert next(late.stages, None) is None and len(late.run_state.stages) == 3


def test_stage_that_was_cut_off_has_the_same_parents_and_begins_those_that_had_not_begun(run):
    run_to_finals(run)
    specs = run.handed(next(run.stages))
    run.end(specs[0], 0.6)
    run.begin(specs[2])  # the second of c0001; it was running when the process died
    later = run.again()
    handed = later.handed(next(later.stages))
    assert names(handed) == [("r0003", "c0001"), ("r0002", "c0002"), ("r0004", "c0002")]
    assert later.run_state.open_stage["parents"] == ["c0001", "c0002", "c0001", "c0002"]


def test_no_trial_enters_a_stage_without_time_for_a_step(run):
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.runner.setup = dataclasses.replace(run.runner.setup, throughput=Throughput(1.0))
    assert next(run.stages, None) is None and [s["name"] for s in run.run_state.stages] == ["explore"]


def test_stage_of_a_killed_run_that_is_given_more_goes_on_in_the_next_round(run):
    run_to_finals(run)
    run.begin(run.handed(next(run.stages))[0])
    later = run.again(extended=True)
    assert later.run_state.round == 2 and later.run_state.open_stage is None
    assert later.run_stage([]) == []  # all configurations have been trained
    later.run_stage([0.9])
    later.run_stage([0.95, 0.1])
    assert "r0001" in [spec.trial_id for spec in later.handed(next(later.stages))]


def test_unfinished_trials_of_a_run_that_is_given_more_share_the_time_with_newcomers(run):
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.run_stage([0.5, 0.6, 0.2])
    run.begin(run.handed(next(run.stages))[0])
    later = run.again(extended=True)
    later.run_stage([])
    later.run_stage([0.9])
    specs = later.handed(next(later.stages))
    assert len(specs) == 3  # on two workers, so in two rounds
    assert specs[0].context.limit_s == pytest.approx((specs[0].context.deadline - time.monotonic()) / 2, rel=0.01)


def test_run_that_is_given_more_promotes_newcomers_and_repeats_none_twice(run):
    run_to_finals(run)
    run.run_stage([0.6] * 4)
    assert next(run.stages, None) is None
    later = run.again(extended=True)
    assert later.run_stage([]) == []  # all configurations have been trained
    assert [parent for _, parent in names(later.run_stage([0.9]))] == [
        ({"e0001", "e0002"} - {r.parent_id for r in run.table.list_begun("confirm")}).pop()
    ]
    assert names(later.run_stage([0.95, 0.1]))[0] == ("f0003", "c0004")
    assert {e.parent_id for e in later.run_stage([0.9] * 4)} == {"c0004", "c0003"}


def test_stage_that_was_passed_over_stays_so_when_a_later_one_goes_on(run):
    run_to_finals(run)
    run.checkpoints = CheckpointStore(run.folder / "ray", seed=0)
    for trial_id in ("c0001", "c0002"):
        run.checkpoints.put(
            trial_id, trial_id
        )  # of explore no weights are left: in the next round no trial enters confirm
    run.is_stopped = True
    assert next(run.stages, None) is None  # before any repeat
    later = run.again(extended=True)
    assert later.run_stage([]) == []
    opened = later.handed(next(later.stages))
    assert opened[0].context.stage.name == "repeat" and stage_of(later, "repeat")["round"] == 2
    last = later.again()
    went_on = last.handed(next(last.stages))
    assert [e.context.stage.name for e in went_on] == ["repeat"] * 4 and names(went_on) == names(opened)


def test_no_trial_skips_a_stage_that_has_no_new_candidates(run):
    run.runner.configs = run.runner.configs[:1]  # as --recipe does
    run.run_stage([0.4])
    run.run_stage([0.5])
    run.run_stage([0.6])
    run.run_stage([0.7, 0.7])
    assert next(run.stages, None) is None
    later = run.again(extended=True)
    later.runner.configs = run.runner.configs
    assert later.run_stage([]) == []
    assert names(later.run_stage([0.8])) == [("f0002", "f0001")]  # no candidate is newer than the finalist
    assert [stage["name"] for stage in later.run_state.stages[-2:]] == ["explore", "final"]


def test_extended_run_without_a_new_candidate_continues_its_best_finalist(run):
    run.runner.stages = (EXPLORE, FINAL)
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.run_stage([0.7, 0.5])
    assert next(run.stages, None) is None
    later = run.again(extended=True)
    later.runner.stages = run.runner.stages
    assert later.run_stage([]) == []
    (spec,) = later.run_stage([0.8])
    assert (spec.trial_id, spec.parent_id, spec.parent) == ("f0003", "f0001", "f0001")
    assert later.console.lines[-1].startswith("final: promoted f0001 (unet, score 0.700), ")


@pytest.mark.parametrize(("score", "parent"), [(0.35, "f0001"), (0.9, "e0005")])
def test_extended_run_promotes_a_new_candidate_only_if_it_is_the_best_so_far(score, parent, run):
    run.runner.stages = (EXPLORE, FINAL)
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.run_stage([0.7, 0.5])
    assert next(run.stages, None) is None
    later = run.again(extended=True)
    later.runner.stages, later.runner.configs = run.runner.stages, run.runner.configs[:1] * 5
    later.run_stage([score])
    assert later.handed(next(later.stages))[0].parent_id == parent


def test_promoted_trials_are_named_and_why_the_first_is_not_the_best(run):
    run.runner.stages = (EXPLORE, dataclasses.replace(FINAL, top_k=1, earlier_margin=0.1))
    run.run_stage([0.15, 0.23, 0.1, 0.1])
    run.run_stage([0.5])
    assert (
        run.console.lines[1] == "  e0001 is preferred: within 0.1 of e0002 (score 0.230) and earlier in the portfolio"
    )
    assert run.console.lines[2].startswith("final: promoted e0001 (unet, score 0.150), ")


def test_nothing_begins_once_the_run_is_stopped(run):
    run.run_stage([0.1, 0.2, 0.3, 0.4])
    run.is_stopped = True
    assert next(run.stages, None) is None and [s["name"] for s in run.run_state.stages] == ["explore"]


def test_stage_of_which_every_trial_failed_ends_the_run_and_is_tried_again(run):
    run.run_stage([0.1, 0.4, 0.3, 0.2])
    failed = run.handed(next(run.stages))
    for spec in failed:
        run.begin(spec)
        run.table.finish(spec.trial_id, "failed", "worker died")
    assert next(run.stages, None) is None  # the final does not begin
    assert run.runner.failure == "every trial of the confirm stage failed: 3 x worker died"
    assert not run.run_state.is_closed("confirm") and run.run_state.open_stage["name"] == "confirm"
    later = run.again()
    again = later.handed(next(later.stages))
    assert [spec.parent_id for spec in again] == [spec.parent_id for spec in failed]
    assert not {spec.trial_id for spec in again} & {spec.trial_id for spec in failed}
    for spec in again:
        later.end(spec, 0.5)
    assert {spec.parent_id for spec in later.handed(next(later.stages))} <= {spec.trial_id for spec in again}
    assert not later.runner.failure and later.run_state.is_closed("confirm")


def test_first_stage_of_which_every_trial_failed_is_tried_again_with_all_configurations(run):
    for spec in run.handed(next(run.stages)):
        run.begin(spec)
        run.table.finish(spec.trial_id, "failed", f"reason of {spec.trial_id}")
    assert next(run.stages, None) is None
    assert "reason of e0001; reason of e0002" in run.runner.failure
    later = run.again()
    assert [trial_id for trial_id, _ in names(later.handed(next(later.stages)))] == ["e0005", "e0006", "e0007", "e0008"]


def test_stage_with_one_trial_that_did_not_fail_goes_on(run):
    specs = run.handed(next(run.stages))
    for spec in specs[:3]:
        run.begin(spec)
        run.table.finish(spec.trial_id, "failed", "worker died")
    run.end(specs[3], 0.4)
    assert [parent for _, parent in names(run.handed(next(run.stages)))] == ["e0004"]
