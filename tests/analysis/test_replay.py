"""The replay: the surrogate, the race, the simulated clock, the searchers, and the table."""

import math
from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from analysis import AnalysisError, replay, settings
from analysis.benchmarks import record_curves
from analysis.searchers import Searchers, StudySearcher
from analysis.settings import Method, climbing, flat, one_epoch
from analysis.simulate import Asha, climb, search
from analysis.surrogate import load_recording


def quality(config):
    """What decides every score: the learning rate, most of all, and the loss of the mask."""
    middle = -2.0 if config.optim.name == "adamw" else -1.0
    rate = math.exp(-(((math.log10(config.optim.lr) - middle) / 0.4) ** 2))
    return 0.5 * rate + 0.1 * (config.loss.mask_structural == "dice")


def recorded(number, config):
    rows = []
    for stage in record_curves.STAGES:
        first = 0.6 if stage.name in ("confirm", "final") else 0.0
        for epoch in range(1, stage.epochs + 1):
            score = quality(config) * (first + (1 - first) * epoch / stage.epochs)
            rows.append({"stage": stage.name, "epoch": epoch, "score": score, "cpu_s": 1.0})
    return {"config": number, "params": 100, "macs": 100, "flat": config.flat(), "rows": rows}


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """A table of eighty configurations whose curves are straight and whose epochs take a second."""
    path = tmp_path_factory.mktemp("curves") / "curves.parquet"
    lines = [recorded(number, config) for number, config in enumerate(record_curves.draw(80, seed=0))]
    record_curves.table(lines).to_parquet(path, index=False)
    return path


@pytest.fixture(scope="module")
def recording(curves):
    return load_recording(curves)


@pytest.fixture(scope="module")
def played(recording):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.searchers.POOL", 40)
        yield replay.Replay(recording)


class Scripted:
    """Asks for configurations in a stated order and notes what it is told."""

    def __init__(self, numbers):
        self.numbers, self.told = cycle(numbers), []

    def ask(self):
        number = next(self.numbers)
        return number, number

    def tell(self, token, status, scores):
        self.told.append((token, status, list(scores)))


def test_a_recorded_configuration_is_its_own_neighbour(recording):
    assert [recording.nearest(config) for config in recording.configs] == list(range(80))
    assert recording.unit_s == 9.0 and recording.end(0, "final") == pytest.approx(quality(recording.configs[0]))


def test_neighbours_share_the_architecture_and_most_parameters(recording):
    config = recording.configs[5]
    lower = replace(config, optim=replace(config.optim, lr=config.optim.lr * 1.01))
    assert recording.nearest(lower) == 5
    for other in record_curves.draw(100, seed=9)[10:]:
        assert recording.configs[recording.nearest(other)].model.arch == other.model.arch


@pytest.mark.parametrize(("factor", "grace"), [(2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (3, 3)])
def test_race_decides_as_ray_does(factor, grace):
    epochs, rng = 9, np.random.default_rng(factor)
    theirs = ASHAScheduler(
        time_attr="epoch", metric="score", mode="max", max_t=epochs + 1, grace_period=grace, reduction_factor=factor
    )
    asha, levels = Asha(factor, grace), {}
    trials = [SimpleNamespace(trial_id=str(number)) for number in range(40)]
    for trial in trials:
        theirs.on_trial_add(None, trial)
    alive, stopped = {trial.trial_id: 0 for trial in trials}, 0
    while alive:
        name = str(rng.choice(list(alive)))
        alive[name] += 1
        epoch, score = alive[name], float(rng.normal())
        verdict = theirs.on_trial_result(None, trials[int(name)], {"epoch": epoch, "score": score})
        mine = False
        if epoch in asha.rungs(epochs):
            mine = asha.stops(levels.setdefault(epoch, []), score)
            levels[epoch].append(score)
        if epoch < epochs:
            assert (verdict == TrialScheduler.STOP) == mine
        stopped += mine
        if mine or epoch == epochs:
            del alive[name]
    assert 0 < stopped < 40


def test_search_keeps_its_time_and_every_worker_busy(recording):
    rung = climbing()[0]
    for workers in (1, 4):
        asked = Scripted([0])
        records = search(recording, asked, rung, Asha(), workers=workers, until_s=100.0)
        assert len(asked.told) == len(records) and {record.status for record in records} <= {"completed", "timed_out"}
        # 25 whole trials fill a stage: with one worker each is cut after 4 s, with four it has 16 s and ends in 9
        alone = len(asked.told[0][2])
        assert alone == (4 if workers == 1 else 9)
        assert len(records) == pytest.approx(workers * 100 / (alone + 0.18), rel=0.1)


def test_a_stopped_trial_tells_its_last_score_and_a_whole_one_its_best(recording):
    order = np.argsort([-quality(config) for config in recording.configs])
    rung = climbing()[0]
    asked = Scripted([int(order[0]), int(order[-1]), *[int(order[1])] * 500])
    records = search(recording, asked, rung, Asha(), workers=1, until_s=1000.0)
    assert asked.told[0][1] == "completed" and len(asked.told[0][2]) == 9
    assert asked.told[1][:2] == (order[-1], "stopped") and len(asked.told[1][2]) == 1
    assert records[1].status == "stopped" and records[1].score == asked.told[1][2][0]


def test_a_trial_that_diverges_fails(recording, curves):
    frame = pd.read_parquet(curves)
    broken = frame[~((frame["config"] == 0) & (frame["stage"] == "explore") & (frame["epoch"] > 3))].copy()
    broken.loc[(broken["config"] == 0) & (broken["epoch"] == 3), "score"] = np.nan
    from analysis.surrogate import Recording

    asked = Scripted([0])
    records = search(Recording(broken, recording.limits), asked, climbing()[0], Asha(), workers=2, until_s=500.0)
    assert {record.status for record in records} == {"failed"} and not any("score" in r.figures for r in records)


def test_the_climb_hands_out_the_best_of_the_last_stage_and_keeps_its_time(recording):
    rungs = climbing()
    wall_s = 300.0
    below = search(recording, Scripted(range(80)), rungs[0], Asha(), workers=8, until_s=120.0)
    best = climb(recording, below, rungs, workers=2, wall_s=wall_s, seed=0)
    top = max(below, key=lambda record: record.score).config["number"]
    assert best.stage == "final" and best.config["number"] == top
    assert best.score == pytest.approx(recording.end(top, "final"))
    hurried = climb(recording, below, rungs, workers=1, wall_s=6.0, seed=0)
    assert hurried.score < best.score


def test_trials_of_the_one_epoch_ladder_go_on_where_they_stopped(recording):
    first, last = one_epoch()
    whole = recording.curves[0, "flat"]
    assert list(first.of(recording, 0).scores) == list(whole.scores[:1])
    assert list(last.of(recording, 0).scores) == list(whole.scores[1:])
    assert last.of(recording, 0).ends_s[-1] == whole.ends_s[-1] - whole.ends_s[0]
    assert len(flat()) == 1


def test_study_is_told_of_rejections_and_of_the_ends_of_trials(recording):
    searchers = Searchers(recording)
    study = searchers.tpe(0)
    assert isinstance(study, StudySearcher)
    for status, scores in (("completed", [0.1, 0.3]), ("stopped", [0.1]), ("failed", [0.0])):
        token, config = study.ask()
        assert 0 <= config < 80
        study.tell(token, status, scores)
    states = [trial.state.name for trial in study.study.trials]
    assert states.count("COMPLETE") == 1 and states.count("FAIL") == 1
    assert study.study.best_value == 0.3


def test_random_search_is_the_same_for_all_methods_of_a_repeat(played):
    drawn = [[played.searchers.random(seed).ask()[1] for _ in range(1)] for seed in (1, 1)]
    one, two = played.searchers.random(1), played.searchers.random(1)
    assert drawn[0] == drawn[1] and [one.ask() for _ in range(80)] == [two.ask() for _ in range(80)]
    other = played.searchers.random(2)
    assert [one.ask() for _ in range(80)] != [other.ask() for _ in range(80)]


def test_repeats_play_on_halves_of_the_recording(recording, played):
    one, same, other = (played.on_half(seed) for seed in (1, 1, 2))
    assert len(one.recording.among) == 40 and list(one.recording.among) == list(same.recording.among)
    assert set(one.recording.among) != set(other.recording.among)
    for searcher in (one.searchers.random(0), one.searchers.tpe(0)):
        assert {searcher.ask()[1] for _ in range(30)} <= set(one.recording.among)
    assert recording.best == max(one.recording.best, played.recording.best) and len(played.recording.among) == 80


def test_methods_are_told_apart_where_the_truth_is_known(played):
    """Straight curves rank at any epoch: promoting the lower half must lose, and by far."""
    chosen = [method for method in settings.methods() if method.group == "who enters confirm"]
    rows = pd.DataFrame([r for seed in range(12) for r in played.play(chosen, budget=38, workers=2, seed=seed)])
    means = rows.groupby("method")["score"].mean()
    assert means["best 4"] > means["4 of the lower half"] + 0.1 and (rows["regret"] >= 0).all()
    again = played.play(chosen, budget=38, workers=2, seed=0)
    assert again == played.play(chosen, budget=38, workers=2, seed=0)


def test_every_method_plays_with_many_workers(played):
    methods = [method for method in settings.methods() if method.searcher == "random"]
    for row in played.play(methods, budget=5, workers=150, seed=0):
        assert row["trials"] >= 150 and math.isfinite(row["score"])


def test_options_of_tpe_reach_optuna(played):
    for method in settings.methods():
        if method.searcher == "tpe":
            played.searchers.tpe(0, **method.options).ask()
    assert played.searchers.tpe(0, n_startup_trials=5).study.sampler._n_startup_trials == 5


def test_command_writes_table_and_repeats(curves, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("analysis.searchers.POOL", 10)
    out = tmp_path / "out"
    given = ["--curves", str(curves), "--repeats", "3", "--budgets", "5m,10", "--groups", "ladder", "--processes", "1"]
    assert replay.main([*given, "--out", str(out)]) == 0
    table = (out / "table.md").read_text()
    assert (
        table.startswith("80 configurations, the best scores 0.")
        and "| climb | 0." in table
        and "**38 whole trials, 2 workers, 3 repeats**" in table
    )
    assert capsys.readouterr().out == table and "explore foretells confirm with a rank correlation of 1.00" in table
    assert len(pd.read_csv(out / "repeats.csv")) == 3 * 2 * 3


def test_table_marks_what_is_apart():
    rows = [
        {"group": "g", "method": name, "budget": 5.0, "workers": 2, "seed": seed, "score": score + seed / 1000}
        for seed in range(20)
        for name, score in (("own", 0.5), ("worse", 0.4), ("same", 0.5))
    ]
    text = replay.table(pd.DataFrame(rows).assign(regret=0.1, trials=9, whole=3))
    assert (
        "| own | 0.509 [" in text
        and "| **-0.100 [-0.100, -0.100]** |" in text
        and "| +0.000 [+0.000, +0.000] |" in text
    )


def test_mistakes_are_one_line(tmp_path, capsys):
    assert replay.main(["--curves", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and not (tmp_path / "o").exists()
    other = tmp_path / "other.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(other)
    with pytest.raises(AnalysisError, match="no column config"):
        load_recording(other)
    for wrong in (["--groups", "none"], ["--budgets", "x"], ["--workers", "0"], ["--repeats", "0"]):
        with pytest.raises(SystemExit) as stopped:
            replay.parser().parse_args(wrong)
        assert stopped.value.code == 2
    assert Method("g", "n", climbing()).asha.factor == 3
