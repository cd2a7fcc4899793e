import itertools

import pytest

from search.ladder import Stage, default_ladder, promote, rank_correlation, ranked
from search.records import TrialRecord


def record(number, score, status="completed", params=100):
    figures = {"params": params} | ({} if score is None else {"score": score})
    return TrialRecord(
        trial_id=f"e{number:04d}", parent_id="", stage="explore", config={}, seed=0, status=status, figures=figures
    )


TEN = [record(i, i / 10) for i in range(10)]
STAGE = Stage(name="confirm", fraction=1.0, px=80, epochs=1, enter=3, control=1)


def test_refinement_can_be_left_out():
    assert default_ladder()[-1].refine > 0 and default_ladder(refine=False)[-1].refine == 0


def test_promotion_takes_the_best_and_a_control_of_the_lower_half():
    best, control = promote(TEN, STAGE, seed=1)[:3], promote(TEN, STAGE, seed=1)[3]
    assert [r.trial_id for r in best] == ["e0009", "e0008", "e0007"]
    assert control.score < 0.5


def test_control_is_drawn_by_the_seed():
    drawn = {promote(TEN, STAGE, seed=s)[3].trial_id for s in range(30)}
    assert len(drawn) == 5
    assert promote(TEN, STAGE, seed=4) == promote(TEN, STAGE, seed=4)


def test_nobody_goes_up_twice_when_few_are_left():
    chosen = promote(TEN[:3], STAGE, seed=0)
    assert [r.trial_id for r in chosen] == ["e0002", "e0001", "e0000"]


def test_failed_and_unscored_trials_stay_below():
    records = [record(1, 0.9, status="failed"), record(2, None), record(3, float("nan")), record(4, 0.1)]
    assert [r.trial_id for r in ranked(records)] == ["e0004"]


def test_ties_go_to_fewer_parameters_then_to_the_earlier():
    records = [record(3, 0.5, params=9), record(2, 0.5, params=9), record(1, 0.5, params=10)]
    assert [r.trial_id for r in ranked(records)] == ["e0002", "e0003", "e0001"]


@pytest.mark.parametrize(
    ("below", "above", "rho"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2], [1, 2], None),
        ([1, 1, 1], [1, 2, 3], None),
    ],
)
def test_rank_correlation(below, above, rho):
    assert rank_correlation(below, above) == (None if rho is None else pytest.approx(rho))


def test_each_stage_trains_on_at_least_as_much_as_the_one_below():
    ladder = default_ladder()
    assert [s.name for s in ladder] == ["explore", "confirm", "final"]
    assert all(a.fraction <= b.fraction and a.px <= b.px for a, b in itertools.pairwise(ladder))
