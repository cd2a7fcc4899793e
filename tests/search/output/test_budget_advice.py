"""The line on the lead of the best trial over the recipes and on what more budget would bring."""

import io

import pytest
from rich.console import Console

from search.config.recipes import NETWORKS, build_recipe
from search.output.budget_advice import describe_outlook, name_recipe, warn_of_guess
from search.output.finalize import report_best
from search.records.console import RunConsole
from tests.trials import make_record

FOUND = build_recipe("quick_unet").flatten() | {"model/head": "minmax"}


def trial(trial_id, score, config, parent_id=""):
    metrics = {"score": score, "params": 1}
    return make_record(trial_id, parent_id=parent_id, config=config, status="completed", metrics=metrics)


def outlook(best, *others, scores=()):
    reports = [{"trial_id": best.trial_id, "fit_s": 10.0 * i, "score": s} for i, s in enumerate(scores, start=1)]
    return describe_outlook(best, {r.trial_id: r for r in (best, *others)}, reports)


@pytest.mark.parametrize("name", [*NETWORKS, "quick_efficientnet+varied"])
def test_recipe_is_recognised_at_another_width_and_rate(name):
    flat = build_recipe(name, width=4).flatten() | {"optim/lr": 0.02, "optim/batch_size": 4}
    assert name_recipe(flat) == name and name_recipe(flat | {"model/head": "minmax"}) == ""


def test_recipes_are_not_built_again_for_each_trial(monkeypatch):
    name_recipe(FOUND)
    recipe = build_recipe("quick_unet").flatten()
    monkeypatch.setattr("search.output.budget_advice.build_recipe", None)
    assert name_recipe(FOUND) == "" and name_recipe(recipe) == "quick_unet"


def test_winner_that_is_a_recipe_is_named():
    best = trial("f0001", 0.6, build_recipe("quick_unet").flatten(), "e0001")
    assert outlook(best) == "The best trial is the recipe quick_unet"


def test_lead_is_that_of_the_latest_stage_with_a_recipe():
    best, parent = trial("f0001", 0.6, FOUND, "e0002"), trial("e0002", 0.5, FOUND)
    recipe = trial("e0001", 0.45, build_recipe("quick_unet").flatten())
    assert outlook(best, parent, recipe) == "e0002 is +0.050 from the best recipe, quick_unet, in explore"
    final = trial("f0002", 0.63, build_recipe("quick_unet").flatten(), "e0001")
    assert outlook(best, parent, recipe, final) == "f0001 is -0.030 from the best recipe, quick_unet, in final"
    assert outlook(best, parent) == "No recipe was trained beside the best trial"


@pytest.mark.parametrize(
    ("scores", "says"), [((0.4, 0.5, 0.55, 0.6), "likely"), ((0.4, 0.58, 0.59, 0.6), "not likely")]
)
def test_rise_in_the_second_half_of_the_training_tells_whether_more_budget_helps(scores, says):
    line = outlook(trial("f0001", 0.6, FOUND), scores=scores)
    assert f"gained {0.6 - scores[1]:+.3f}: more budget is {says} to help" in line
    assert ("larger images (--px) may" in line) == (says == "not likely")
    assert "more budget" not in outlook(trial("f0001", 0.6, FOUND), scores=(0.6,))


def test_model_that_is_not_better_than_a_constant_guess_is_reported():
    good, bad = ({"score": score, "constant_guess": {"score": 0.0}} for score in (0.1, -0.111))
    assert warn_of_guess({"val": good, "test": good, "outlook": ""}) == ""
    warning = warn_of_guess({"val": bad, "test": good})
    assert "better than the best constant guess, which scores about 0, on the validation images" in warning
    assert "(score -0.111): it needs" in warning
    assert "validation images (score -0.111) and the test images (score -0.111)" in warn_of_guess(
        {"val": bad, "test": bad}
    )
    few = {"score": -0.012, "constant_guess": {"score": -0.239}}  # the training images have another mean depth
    assert "score -0.012" in warn_of_guess({"val": few})
    printed = io.StringIO()
    best = trial("f0001", -0.111, FOUND)
    report_best(best, {"val": bad, "outlook": "", "note": ""}, RunConsole(Console(file=printed, width=200)))
    assert f"  {warn_of_guess({'val': bad})}\n" in printed.getvalue()
