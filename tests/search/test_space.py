import json

import optuna
import pytest

from models.build import ARCHITECTURES, build_model
from models.losses import build_loss
from search.config import POLICIES, TrialConfig
from search.recipes import RECIPES, STARTERS, recipe
from search.space import ARCHS, WIDTHS, SpaceLimits, batch_sizes, first_points, point, suggest
from search.space import POLICIES as SEARCHED_POLICIES

LIMITS = SpaceLimits()


def test_space_knows_every_architecture_and_policy():
    assert set(ARCHS) == set(ARCHITECTURES) == set(WIDTHS)
    assert set(SEARCHED_POLICIES) == set(POLICIES) - {"constant"}


def test_200_random_samples_build_and_round_trip():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(200):
        config = suggest(study.ask(), LIMITS)
        assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        build_loss(config.loss, 80)
        if config.model.to_dict().__repr__() not in seen and config.model.width <= 8:
            build_model(config.model)
        seen.add(repr(config.model.to_dict()))
    assert {config.split("'arch': '")[1].split("'")[0] for config in seen} == set(ARCHS)


@pytest.mark.parametrize("name", RECIPES | STARTERS)
def test_recipe_as_a_point_comes_back_as_itself(name):
    trial = optuna.trial.FixedTrial(point(recipe(name), LIMITS))
    assert suggest(trial, LIMITS) == recipe(name)


def test_recipes_are_tried_first_and_the_space_accepts_them():
    study = optuna.create_study()
    points = first_points(LIMITS, lambda config: config.model.width <= 8)
    for p in points:
        study.enqueue_trial(p)
    asked = [suggest(study.ask(), LIMITS) for _ in points]
    assert [c.model.arch for c in asked] == [known["model"]["arch"] for known in (RECIPES | STARTERS).values()]
    assert [c.model.width for c in asked] == [8, 8, 8, 8, 8, 8, 4]


def test_first_points_take_the_greatest_width_that_fits():
    widths = [p[f"{p['model/arch']}/width"] for p in first_points(LIMITS, lambda config: config.model.width < 16)]
    assert widths == [8, 8, 8, 8, 12, 8, 4]


@pytest.mark.parametrize(("images", "sizes"), [(3, (1,)), (160, (8, 16, 32)), (40_000, (64, 128, 256)), (25, (4,))])
def test_batch_sizes_leave_steps_in_an_epoch(images, sizes):
    assert batch_sizes(images) == sizes
