"""Promotion, kept checkpoints and Pareto fronts, checked by hand and on random tables."""

import itertools
import math
import random
from dataclasses import replace

import pytest

from models.losses.registry import TERMS
from search.config.stages import CONFIRM_FROM, PX_RANGE, STAGE_PRESETS, Stage, build_stages
from search.tuning.promotion import (
    KEPT_CHECKPOINTS,
    choose_finalist_to_continue,
    group_finalists,
    order_for_promotion,
    promote,
    rank_trials,
    select_checkpoints,
    select_pareto_front,
)
from tests.trials import make_record

STAGE = Stage(name="confirm", kind="promote", fraction=1.0, px=80, epochs=1, top_k=3, controls=1)
SMALLEST = Stage(
    name="confirm", kind="promote", fraction=1.0, px=80, epochs=1, top_k=3, include_smallest=True, controls=1
)
TABLES = range(200)


def record(number, score, status="completed", params=100, parent_id="", **metrics):
    metrics = {"params": params, **metrics} | ({} if score is None else {"score": score})
    return make_record(f"e{number:04d}", parent_id=parent_id, status=status, metrics=metrics)


def drawn(seed, *, most=40):
    """Return a table as a search may leave it: ties, failures, scores below a constant guess and none at all."""
    draw = random.Random(seed)
    statuses = ("completed", "completed", "stopped", "ended_by_budget", "failed")
    return [
        record(
            number,
            None if draw.random() < 0.1 else round(draw.uniform(-0.3, 0.6), draw.choice([1, 3])),
            draw.choice(statuses),
            params=draw.choice([10, 20, 50, 100, 500]),
            macs=draw.choice([1, 2, 3]),
        )
        for number in range(draw.randint(0, most))
    ]


def ids(records):
    return [r.trial_id for r in records]


def costs(r):
    return (r.metrics["params"], r.metrics["macs"])


def dominates(other, r):
    """Return whether one trial scores no worse, costs no more in anything and is better somewhere."""
    pairs = list(zip(costs(other), costs(r), strict=True))
    no_worse = other.score >= r.score and all(a <= b for a, b in pairs)
    return no_worse and (other.score > r.score or any(a < b for a, b in pairs))


TEN = [record(i, i / 10) for i in range(10)]


def test_refinement_of_the_final_stages_is_optional():
    assert all(stage.refine == 0 for stage in build_stages())
    assert [stage.refine > 0 for stage in build_stages(refine=True)] == [False, False, True, True]


@pytest.mark.parametrize("preset", STAGE_PRESETS)
def test_sides_of_all_stages_follow_the_final_one(preset):
    usual, large = build_stages(preset), build_stages(preset, px=224)
    assert usual[-1].px == 160 and large[-1].px == 224
    assert [stage.px for stage in large] == [round(1.4 * stage.px) for stage in usual]
    assert [replace(stage, px=0) for stage in large] == [replace(stage, px=0) for stage in usual]


def test_smallest_images_are_large_enough_for_every_term_of_the_loss():
    least = build_stages(px=PX_RANGE[0])[0].px
    assert all(least >= term.min_px for term in TERMS.values())


def test_fixed_configurations_replace_the_search_and_are_trained_in_full():
    searching, fixed = build_stages(), build_stages(fixed=True)
    assert (fixed[0].kind, fixed[0].early_stopping) == ("fixed", False) and fixed[1:] == searching[1:]
    assert [stage.kind for stage in searching] == ["search", "promote", "promote", "repeat"]
    assert [stage.is_first for stage in fixed] == [stage.is_first for stage in searching] == [True, False, False, False]


def test_each_stage_trains_on_at_least_as_much_as_the_previous_one():
    stages = build_stages()
    assert [s.name for s in stages] == ["explore", "confirm", "final", "repeat"]
    assert all(a.fraction <= b.fraction and a.px <= b.px for a, b in itertools.pairwise(stages))


@pytest.mark.parametrize("name", STAGE_PRESETS)
def test_shares_of_a_preset_fill_its_time_and_letters_tell_stages_apart(name):
    stages = build_stages(name)
    assert sum(stage.share for stage in stages) == pytest.approx(1.0)
    assert len({stage.name[0] for stage in stages}) == len(stages) and stages[0].name == "explore"
    assert stages[0].kind == "search" and all(stage.top_k for stage in stages[1:])


def test_stated_confirmation_takes_place_with_a_small_budget():
    def names(**configured):
        return [stage.name for stage in build_stages(trainings=1.0, configured=configured)]

    assert names(explore={"epochs": 2}, final={"epochs": 5}) == ["explore", "final", "repeat"]
    assert names(confirm={"top_k": 1}) == ["explore", "confirm", "final", "repeat"]


def test_repeated_finals_are_trained_as_finals_are():
    final, repeat = build_stages(refine=True)[2:]
    assert (repeat.px, repeat.fraction, repeat.epochs, repeat.refine) == (
        final.px, final.fraction, final.epochs, final.refine,
    )  # fmt: skip
    assert repeat.repeats == 2 and repeat.share == 0


def test_promotion_takes_the_best_and_a_control_of_the_lower_half():
    *best, control = promote(TEN, STAGE, seed=1)
    assert ids(best) == ["e0009", "e0008", "e0007"]
    assert control.score < 0.5


def test_control_is_drawn_by_the_seed():
    drawn = {promote(TEN, STAGE, seed=s)[3].trial_id for s in range(30)}
    assert len(drawn) == 5
    assert promote(TEN, STAGE, seed=4) == promote(TEN, STAGE, seed=4)


def test_every_trial_of_the_lower_half_is_as_likely_to_be_the_control():
    counts = {r.trial_id: 0 for r in TEN[:5]}
    for seed in range(1000):
        counts[promote(TEN, STAGE, seed=seed)[3].trial_id] += 1
    assert all(150 <= count <= 250 for count in counts.values())


@pytest.mark.parametrize("stage", [STAGE, SMALLEST])
def test_promotion_does_not_depend_on_the_order_in_which_trials_ended(stage):
    for seed in TABLES:
        records = drawn(seed)
        mixed = random.Random(seed).sample(records, len(records))
        assert ids(promote(records, stage, seed=seed)) == ids(promote(mixed, stage, seed=seed))


@pytest.mark.parametrize("stage", [STAGE, SMALLEST])
def test_no_trial_is_promoted_twice_or_without_a_score_and_the_control_is_of_the_lower_half(stage):
    for seed in TABLES:
        order = rank_trials(drawn(seed))
        chosen = promote(drawn(seed), stage, seed=seed)
        assert len(set(ids(chosen))) == len(chosen) == min(len(order), 4) or len(order) < 8
        assert set(ids(chosen)) <= set(ids(order))
        if len(order) >= 8:
            assert chosen[3].trial_id in ids(order[len(order) // 2 :])


def test_no_trial_is_promoted_twice_when_few_are_left():
    assert ids(promote(TEN[:3], STAGE, seed=0)) == ["e0002", "e0001", "e0000"]
    assert promote([], STAGE, seed=0) == []


def test_smallest_of_the_front_takes_the_last_of_the_best_places():
    records = [record(1, 0.9), record(2, 0.8), record(3, 0.7), record(4, 0.2, params=9), record(5, 0.1, params=10)]
    assert ids(promote(records, SMALLEST, seed=0))[:3] == ["e0001", "e0002", "e0004"]
    assert ids(promote(records, STAGE, seed=0))[:3] == ["e0001", "e0002", "e0003"]


def test_smallest_that_is_among_the_best_takes_no_place():
    records = [record(1, 0.9), record(2, 0.8, params=9), record(3, 0.7), record(4, 0.6)]
    assert ids(promote(records, SMALLEST, seed=0))[:3] == ["e0001", "e0002", "e0003"]


def pretrained(one):
    one.config["model/weights"] = "imagenet"
    return one


def test_best_pretrained_network_takes_a_place():
    stage = replace(SMALLEST, include_pretrained=True)
    records = [record(1, 0.9), record(2, 0.8), record(3, 0.7), record(4, 0.3), record(5, 0.2, params=9)]
    assert ids(promote(records, stage, seed=0))[:3] == ["e0001", "e0002", "e0005"]
    records[3:3] = [pretrained(record(6, 0.5)), pretrained(record(7, 0.4))]
    assert ids(promote(records, stage, seed=0))[:3] == ["e0001", "e0006", "e0005"]
    assert ids(promote(records, SMALLEST, seed=0))[:3] == ["e0001", "e0002", "e0005"]
    assert {"e0006"} <= select_checkpoints(records, seed=0)


def test_pretrained_network_takes_no_second_place_and_none_for_nothing():
    stage = replace(SMALLEST, include_pretrained=True)
    records = [record(1, 0.9), pretrained(record(2, 0.8, params=9)), record(3, 0.7), record(4, 0.6)]
    assert ids(promote(records, stage, seed=0))[:3] == ["e0001", "e0002", "e0003"]
    records = [record(1, 0.9), record(2, 0.8), record(3, 0.7), pretrained(record(4, -0.1))]
    assert ids(promote(records, stage, seed=0))[:3] == ["e0001", "e0002", "e0003"]


def test_confirm_has_a_place_for_a_pretrained_network():
    assert build_stages()[1].include_pretrained


def test_final_takes_a_second_trial_within_the_noise_only():
    final = build_stages()[2]
    assert ids(promote([record(1, 0.50), record(2, 0.48), record(3, 0.47)], final, seed=0)) == ["e0001", "e0002"]
    assert ids(promote([record(1, 0.50), record(2, 0.46)], final, seed=0)) == ["e0001"]
    assert len(promote(TEN, replace(final, epsilon=math.inf), seed=0)) == 2


def shares(trainings):
    return {stage.name: stage.share for stage in build_stages(trainings=trainings)}


def test_budget_of_few_trainings_is_spent_on_one_after_a_race_at_the_final_size():
    race, final, repeat = build_stages(trainings=1.0)
    assert (race.kind, race.px, race.fraction, race.full_trials) == ("search", final.px, 1.0, 4)
    assert (race.narrow, race.early_stopping, final.kind, repeat.kind) == (True, False, "promote", "repeat")
    assert final.controls == 0 and not final.include_smallest and final.share == 0.85
    assert [stage.full_trials for stage, *_ in map(lambda t: build_stages(trainings=t), (0.1, 1.5, 2.9))] == [2, 6, 8]


def test_pretrained_network_that_lost_a_short_race_is_trained_on_too():
    final = build_stages(trainings=1.0)[1]
    records = [record(1, 0.6), pretrained(record(2, 0.4)), record(3, 0.59)]
    assert ids(promote(records, final, seed=0)) == ["e0001", "e0002"]
    assert ids(promote([pretrained(record(1, 0.6)), record(2, 0.595)], final, seed=0)) == ["e0001"]


def test_short_race_is_won_by_the_first_of_the_portfolio_unless_another_one_is_clearly_better():
    final = build_stages(trainings=0.5)[1]
    assert ids(promote([record(1, 0.60), record(2, 0.62), record(3, 0.55)], final, seed=0)) == ["e0001"]
    assert ids(promote([record(1, 0.60), record(2, 0.62), record(3, 0.705)], final, seed=0)) == ["e0002"]
    assert ids(promote([record(1, 0.60), record(2, 0.72)], final, seed=0)) == ["e0002"]
    assert ids(promote([pretrained(record(1, 0.60)), pretrained(record(2, 0.69))], final, seed=0)) == ["e0001"]
    assert promote([], final, seed=0) == []


def test_pretrained_network_with_the_best_score_of_a_short_race_is_trained_on_too():
    final = build_stages(trainings=0.5)[1]
    records = [record(1, 0.60), pretrained(record(2, 0.62)), pretrained(record(3, 0.2)), record(4, 0.61)]
    assert ids(promote(records, final, seed=0)) == ["e0001", "e0002"]


def test_a_search_at_half_the_size_leaves_a_full_training_for_each_of_two_finalists():
    sizes = {trainings: [stage.px for stage in build_stages(trainings=trainings)] for trainings in (4.9, CONFIRM_FROM)}
    assert sizes == {4.9: [160, 160, 160], CONFIRM_FROM: [80, 160, 160, 160]}
    final = build_stages(trainings=CONFIRM_FROM)[2]
    assert final.share * CONFIRM_FROM / final.top_k >= 1


@pytest.mark.parametrize(("trainings", "first"), [(0.5, "e0001"), (1.0, "e0002")])
def test_as_many_trials_of_a_race_are_promoted_as_the_user_configures(trainings, first):
    final = build_stages(trainings=trainings, configured={"final": {"top_k": 3}})[1]
    records = [record(1, 0.60), record(2, 0.62), record(3, 0.2), pretrained(record(4, 0.1))]
    promoted = ids(promote(records, final, seed=0))
    assert promoted[0] == first and sorted(promoted) == ["e0001", "e0002", "e0003"]


@pytest.mark.parametrize(
    "options", [{"tried_first": "study"}, {"tried_first": "nothing"}, {"fixed": True}, {"trainings": 1.0}]
)
def test_race_without_the_portfolio_or_of_longer_trials_is_won_by_the_best(options):
    final = build_stages(**{"trainings": 0.5, **options})[1]
    assert ids(promote([record(1, 0.60), record(2, 0.62)], final, seed=0)) == ["e0002"]


def test_more_budget_means_more_search_and_never_less_time_for_the_final_training():
    budgets = [0.1 * i for i in range(1, 300)]
    assert all(sum(shares(t).values()) == pytest.approx(1.0) for t in budgets)
    times = [t * shares(t)["final"] for t in budgets]
    assert all(later >= 0.999 * earlier or later > 1 for earlier, later in itertools.pairwise(times))
    assert [list(shares(t)) for t in (1.0, 5.0)] == [["explore", "final", "repeat"], list(shares(99.0))]
    factors = [build_stages(trainings=t)[0].macs_factor for t in (0.5, 1.0, 9.0, 100.0)]
    assert factors == [0.5, 0.5, 3.0, 10.0]
    assert [build_stages(trainings=t)[0].narrow for t in (4.0, 100.0, math.inf)] == [True, False, False]


def test_study_s_recipes_keep_their_architectures_in_the_space_of_a_short_budget():
    assert not build_stages(trainings=1.0, tried_first="study")[0].narrow and build_stages(trainings=1.0)[0].narrow


@pytest.mark.parametrize("preset", ["one_epoch", "single"])
def test_baselines_do_not_follow_the_budget(preset):
    assert [s.share for s in build_stages(preset, trainings=1.0)] == [s.share for s in build_stages(preset)]


@pytest.mark.parametrize("score", [0.0, -0.2])
def test_network_no_better_than_a_constant_guess_is_not_promoted_for_being_small(score):
    records = [record(1, 0.9), record(2, 0.8), record(3, 0.7), record(4, 0.6), record(5, score, params=1)]
    assert ids(promote(records, SMALLEST, seed=0))[:3] == ["e0001", "e0002", "e0003"]


def test_excluded_trials_are_not_promoted_and_still_count_for_what_is_the_lower_half():
    chosen = promote(TEN, STAGE, seed=1, excluded={"e0009", "e0007", "e0000", "e0001", "e0002", "e0003"})
    assert ids(chosen) == ["e0008", "e0006", "e0005", "e0004"]
    assert ids(promote(TEN, STAGE, seed=1, excluded={f"e{i:04d}" for i in range(5)})) == ["e0009", "e0008", "e0007"]


def test_best_finalist_is_continued_unless_a_newer_trial_is_better_by_more_than_noise():
    def begun(number, score, started_s):
        return replace(record(number, score), started_s=started_s)

    finalists = [begun(11, 0.7, 3.0), begun(12, 0.8, 4.0)]
    older, newer = begun(1, 0.6, 3.5), begun(2, 0.5, 5.0)
    assert choose_finalist_to_continue([older, newer], finalists, ()) is finalists[1]
    assert choose_finalist_to_continue([older, newer], finalists, {"e0012"}) is finalists[0]
    assert choose_finalist_to_continue([older, begun(3, 0.62, 5.0)], finalists, ()) is finalists[1]
    assert choose_finalist_to_continue([older, begun(3, 0.64, 5.0)], finalists, ()) is None
    assert choose_finalist_to_continue([record(1, None)], finalists, ()) is finalists[1]
    assert choose_finalist_to_continue([newer], finalists, ()) is None
    assert choose_finalist_to_continue([older], finalists, {"e0011", "e0012"}) is None
    assert choose_finalist_to_continue([], finalists, ()) is choose_finalist_to_continue([older], [], ()) is None


def test_failed_and_unscored_trials_are_not_ranked():
    records = [record(1, 0.9, status="failed"), record(2, None), record(3, float("nan")), record(4, 0.1)]
    assert ids(rank_trials(records)) == ["e0004"]


def test_ties_go_to_fewer_parameters_then_to_the_earlier():
    records = [record(3, 0.5, params=9), record(2, 0.5, params=9), record(1, 0.5, params=10)]
    assert ids(rank_trials(records)) == ["e0002", "e0003", "e0001"]


def test_front_is_the_trials_that_none_dominates():
    for seed in TABLES:
        records = drawn(seed)
        order = rank_trials(records)
        found = select_pareto_front(records, costs)
        assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)
        assert not any(dominates(other, r) for r in found for other in order)
        for outside in [r for r in order if r.trial_id not in ids(found)]:
            assert any(dominates(r, outside) or (r.score, costs(r)) == (outside.score, costs(outside)) for r in found)


def test_of_equal_trials_the_first_by_rank_is_on_the_front():
    assert ids(select_pareto_front([record(2, 0.5, macs=1), record(1, 0.5, macs=1)], costs)) == ["e0001"]


def test_later_trial_that_is_as_good_and_cheaper_beats_the_earlier():
    assert ids(select_pareto_front([record(1, 0.5, macs=2), record(2, 0.5, macs=1)], costs)) == ["e0002"]


@pytest.mark.parametrize("stage", [STAGE, SMALLEST])
def test_weights_of_all_that_may_be_promoted_are_kept(stage):
    for seed in TABLES:
        records = drawn(seed)
        kept, chosen = select_checkpoints(records, seed=seed), promote(records, stage, seed=seed)
        assert len(kept) <= 2 * KEPT_CHECKPOINTS + 1
        assert set(ids(chosen[: stage.top_k])) <= kept
        assert set(ids(chosen)) <= kept


def test_weights_that_are_kept_in_the_end_have_not_been_dropped_on_the_way():
    for seed in TABLES:
        records = drawn(seed)
        in_the_end = select_checkpoints(records, seed=seed)
        for count in range(1, len(records)):
            ended = set(ids(records[:count]))
            assert in_the_end & ended <= select_checkpoints(records[:count], seed=seed)


def test_mean_over_seeds_decides_and_single_scores_are_reduced_by_the_mean_drop():
    groups = {"a": [0.60, 0.50, 0.52], "b": [0.59, 0.58], "c": [0.60], "d": [0.55]}
    numbers = itertools.count(1)
    records = [record(next(numbers), score, parent_id=name) for name, scores in groups.items() for score in scores]
    for i, r in enumerate(records):
        r.started_s = float(i)
    found = group_finalists([*records, record(99, 0.99, "failed", parent_id="c")])
    # the first of a was 0.06 above the mean, that of b 0.005: c counts as 0.5675
    assert [group[0].parent_id for group in found] == ["b", "c", "a", "d"]
    assert [r.score for r in found[2]] == [0.60, 0.52, 0.50]  # the best seed of each group first
    assert group_finalists([]) == []


TWO = replace(STAGE, objectives=("score", "latency_ms"), controls=0)


def test_promotion_of_two_objectives_takes_from_the_front_what_adds_most():
    front = [record(1, 0.6, latency_ms=8.0), record(2, 0.55, latency_ms=7.5), record(3, 0.3, latency_ms=1.0)]
    behind = [record(4, 0.5, latency_ms=8.0), record(5, -0.2, latency_ms=0.9), record(6, 0.59, "failed", latency_ms=1)]
    records = [*behind, *front]
    # beside 1, 3 adds 0.3 * (1.1 - 0.05) and 2 only 0.55 * 0.03, on a logarithmic scale from 0.9 to 8.0 ms; 5 is on the
    # front, but adds nothing, because it is worse than a constant guess
    order = ["e0001", "e0003", "e0002", "e0005", "e0004"]
    assert ids(order_for_promotion(records, TWO.objectives)) == order
    assert ids(promote(records, replace(TWO, top_k=2), seed=0)) == order[:2]
    assert ids(promote(records, replace(TWO, objectives=("score",), top_k=2), seed=0)) == ["e0001", "e0002"]
    assert ids(order_for_promotion(records, ("score",))) == ids(rank_trials(records))
    assert order_for_promotion([], TWO.objectives) == []


@pytest.mark.parametrize("seed", TABLES)
def test_checkpoints_of_all_that_two_objectives_may_promote_are_kept(seed):
    records = drawn(seed)
    known = [r for r in records if r.metrics.get("score") is not None]
    stage = replace(TWO, objectives=("score", "macs", "params"), top_k=3)
    kept = select_checkpoints(known, seed=seed, objectives=stage.objectives)
    assert {r.trial_id for r in promote(known, stage, seed=seed)} <= kept
    for count in range(len(known)):
        ended = {r.trial_id for r in known[:count]}
        assert kept & ended <= select_checkpoints(known[:count], seed=seed, objectives=stage.objectives)
