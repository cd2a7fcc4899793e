import dataclasses
import math
import shutil

import pytest
import torch

from search.fit import Clock, FitPlan, TrialDiverged, build_optimizer, fit, refined
from search.ladder import Stage
from search.supply import Supply


def train(config, data, *, epochs=2, **options):
    """Run fit and return its reports and its states, detached from the live network."""
    plan = FitPlan(epochs=epochs, seed=options.pop("seed", 0), refine=options.pop("refine", 0.0))
    reports, states = [], []

    def report(figures, state):
        reports.append(figures)
        states.append({k: _copied(v) for k, v in state().items()})

    model = fit(config, data, plan, report=report, **options)
    return model, reports, states


def _copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def with_(config, section, **changes):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **changes)})


def test_fit_with_same_seed_gives_same_numbers(fit_data, small_config):
    config = with_(small_config, "augment", flip=0.5, brightness_contrast=0.5)
    _, first, a = train(config, fit_data, seed=3)
    _, second, b = train(config, fit_data, seed=3)
    assert [r["train_total"] for r in first] == [r["train_total"] for r in second]
    assert [r["score"] for r in first] == [r["score"] for r in second]
    assert all(torch.equal(a[-1]["model"][k], b[-1]["model"][k]) for k in a[-1]["model"])


def test_fit_with_another_seed_gives_other_numbers(fit_data, small_config):
    _, first, _ = train(small_config, fit_data, epochs=1, seed=1)
    _, second, _ = train(small_config, fit_data, epochs=1, seed=2)
    assert first[0]["train_total"] != second[0]["train_total"]


@pytest.mark.parametrize("refine", [0.0, 0.5])
@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_resumed_run_equals_uninterrupted_run(fit_data, small_config, refine, balance):
    config = with_(with_(small_config, "loss", balance=balance), "augment", flip=0.5, rotate=0.5)
    _, whole, states = train(config, fit_data, epochs=4, refine=refine)
    _, rest, resumed = train(config, fit_data, epochs=4, refine=refine, resume=states[1])
    assert [r["epoch"] for r in rest] == [3, 4]
    assert [r["train_total"] for r in rest] == [r["train_total"] for r in whole[2:]]
    assert all(torch.equal(states[-1]["model"][k], resumed[-1]["model"][k]) for k in resumed[-1]["model"])


def test_fit_overfits_a_few_images(fit_data, small_config):
    few = dataclasses.replace(fit_data, train=fit_data.train.prefix(4), val=fit_data.train.prefix(4))
    config = with_(with_(small_config, "augment", flip=0.0), "optim", batch_size=4, lr=0.01)
    _, reports, _ = train(config, few, epochs=150)
    assert reports[-1]["score"] > 0.65
    assert reports[-1]["train_total"] < 0.25 * reports[0]["train_total"]


def test_fit_cut_by_the_clock_has_annealed(fit_data, small_config):
    _, reports, _ = train(small_config, fit_data, epochs=100_000, limit=2.0)
    assert reports[-1]["last"] and reports[-1]["out_of_time"]
    assert reports[-1]["lr"] < 0.1 * small_config.optim.lr
    assert reports[-1]["fit_s"] < 3.0


def test_fit_that_ends_by_epochs_is_not_out_of_time(fit_data, small_config):
    _, reports, _ = train(small_config, fit_data, epochs=2, limit=600.0)
    assert [r["last"] for r in reports] == [False, True]
    assert not reports[-1]["out_of_time"]


def test_fit_with_no_time_left_still_reports_once(fit_data, small_config):
    _, reports, _ = train(small_config, fit_data, epochs=5, limit=0.0)
    assert len(reports) == 1 and math.isfinite(reports[0]["score"])


def test_fit_starts_from_the_weights_it_is_given(fit_data, small_config):
    model, before, _ = train(small_config, fit_data, epochs=8)
    idle = with_(small_config, "optim", lr=1e-12, weight_decay=0.0)
    _, after, _ = train(idle, fit_data, epochs=1, weights=model.state_dict(), seed=9)
    assert after[0]["train_total"] < before[0]["train_total"]


def test_diverged_loss_raises_with_the_epoch(fit_data, small_config):
    config = with_(small_config, "optim", name="sgd", lr=1e30, clip_norm=0.0)
    with pytest.raises(TrialDiverged, match=r"loss is (nan|inf) in epoch \d"):
        train(config, fit_data, epochs=5)


def test_refinement_stops_augmenting_and_favours_the_mask(fit_data, small_config, monkeypatch):
    from data.augment import Augment

    changed = []
    original = Augment.change
    monkeypatch.setattr(Augment, "change", lambda self, raw, seeds: changed.append(1) or original(self, raw, seeds))
    steps = len(fit_data.train) // small_config.optim.batch_size
    train(small_config, fit_data, epochs=4, refine=0.5)
    assert len(changed) <= 2 * steps + 1  # one batch may be on its way when the refinement begins
    assert refined(small_config.loss).mask_weight == 2 * small_config.loss.mask_weight


def test_clock_progress_is_the_larger_of_steps_and_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("search.fit.time.monotonic", lambda: now[0])
    clock = Clock(10, limit=100.0)
    clock.steps = 5
    assert clock.progress == 0.5
    now[0] += 80
    assert clock.progress == 0.8
    clock.reserve = 20.0
    assert clock.progress == 1.0


def test_norms_and_biases_are_not_decayed(small_config):
    from models.build import build_model

    model = build_model(small_config.model)
    decayed, free = build_optimizer(small_config.optim, [model]).param_groups
    assert decayed["weight_decay"] == small_config.optim.weight_decay and free["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim <= 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


def test_trial_ends_with_its_best_epoch(fit_data, small_config, monkeypatch):
    scripted = iter([0.1, 0.5, 0.3, 0.2])
    monkeypatch.setattr("search.fit._Run.validate", lambda run: {"score": next(scripted)})
    model, reports, states = train(small_config, fit_data, epochs=4)
    assert [r["score"] for r in reports] == [0.1, 0.5, 0.3, 0.5]
    assert [r["best_epoch"] for r in reports] == [1, 2, 2, 2]
    assert all(torch.equal(states[1]["model"][k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(states[3]["model"][k], v) for k, v in model.state_dict().items())
    assert not all(torch.equal(states[2]["model"][k], v) for k, v in model.state_dict().items())


def test_data_without_depth_trains_the_mask_and_scores_by_it(tiny_dataset, tmp_path, small_config):
    for folder in ("images", "masks"):
        shutil.copytree(tiny_dataset / folder, tmp_path / folder)
    (tmp_path / "dataset.json").write_text('{"group_size": 4}')
    stage = Stage(name="explore", fraction=1.0, px=32, epochs=1)
    data = Supply(tmp_path, seed=0).for_stage(stage)
    _, reports, _ = train(with_(small_config, "loss", depth_structural="ssim"), data, epochs=2)
    assert reports[-1]["score"] == reports[-1]["iou"] and "rmse_depth" not in reports[-1]
    assert reports[-1]["train_depth"] == 0.0 and reports[-1]["train_mask"] > 0
