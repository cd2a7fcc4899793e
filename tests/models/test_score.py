"""The score: its weights as a settings file states them, its value and its formula."""

import pytest

from models.config import ConfigError
from models.metric_table import METRICS
from models.score import DEFAULT_WEIGHTS, SCORED, Score, describe_score, read_weights

SCORE = Score(sigma=0.25)


@pytest.mark.parametrize(
    ("iou", "rmse", "value"), [(0.0, 0.25, 0), (1.0, 0.0, 1), (0.5, 0.1, 0.55), (0.7, None, 0.7), (None, 0.1, 0.6)]
)
def test_score_is_half_overlap_half_skill_or_the_one_that_is_known(iou, rmse, value):
    known = {name: each for name, each in {"iou": iou, "rmse_depth": rmse, "dice": 0.9}.items() if each is not None}
    assert SCORE.compute(known) == pytest.approx(value)


def test_score_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing to score"):
        SCORE.compute({"dice": 0.9})


def test_each_metric_counts_so_that_perfect_is_one():
    perfect = {name: 1.0 if name in ("iou", "dice", "boundary_f") or "delta" in name else 0.0 for name in SCORED}
    for name in SCORED:
        assert Score(sigma=0.25, weights={name: 1.0}).compute(perfect) == 1
    mixed = Score(sigma=0.25, weights={"mae_mask": 0.5, "iou": 0.5})
    assert mixed.compute({"mae_mask": 0.2, "iou": 0.4}) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("configured", "weights"),
    [
        ({}, DEFAULT_WEIGHTS),
        ({"mask": 0.5, "depth": 0.5}, DEFAULT_WEIGHTS),
        ({"mask": 0.8}, {"iou": 0.8, "rmse_depth": 0.2}),
        ({"depth": 1}, {"rmse_depth": 1.0}),
        ({"mask": 0.5, "delta1": 0.5}, {"iou": 0.5, "delta1": 0.5}),
        ({"boundary_f": 0.2}, {"boundary_f": 1.0}),
        ({"iou": 0.6, "boundary_f": 0.6, "depth": 0.3}, {"iou": 0.4, "boundary_f": 0.4, "rmse_depth": 0.2}),
        ({"iou": 0.3, "delta1": 0}, {"iou": 1.0}),
    ],
)
def test_weights_that_are_named_count_with_sum_one(configured, weights):
    assert read_weights(configured) == pytest.approx(weights)
    assert read_weights(read_weights(configured)) == read_weights(configured)


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        ({"boundery_f": 1}, "the nearest is 'boundary_f'"),
        ({"mask": 1.5}, "score.mask = 1.5 must be a number from 0 to 1"),
        ({"mask": True}, "score.mask = True must be a number"),
        ({"iou": "much"}, "score.iou = 'much' must be a number"),
        ({"mask": 0, "depth": 0}, "all weights are 0"),
        ({"iou": 0.3, "mask": 0.3}, "score.mask and score.iou name the same metric"),
    ],
)
def test_wrong_weights_are_refused(configured, said):
    with pytest.raises(ConfigError, match=said):
        read_weights(configured)


def test_formula_names_what_counts():
    both = describe_score(DEFAULT_WEIGHTS, SCORED, "0.2")
    assert both == (
        "½ · IoU of the mask + ½ · (1 - RMSE of the depth / 0.2): "
        "about 0 for a constant guess, 1 for a perfect prediction"
    )
    assert describe_score(DEFAULT_WEIGHTS, [name for name in SCORED if METRICS[name].needs == {"mask"}]).startswith(
        "IoU of the mask (no depth is known): 0 for"
    )
    assert describe_score(DEFAULT_WEIGHTS, ["rmse_depth"], "0.2").startswith("1 - RMSE of the depth / 0.2 (no mask is")
    own = describe_score(read_weights({"boundary_f": 0.75, "delta1": 0.25}), SCORED)
    assert own == (
        "0.75 · boundary F of the mask + 0.25 · share of the depth within a factor of 1.25: 1 for a perfect prediction"
    )
