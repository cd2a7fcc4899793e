"""Compare the best trial of a run with the recipes that were tried first, and estimate whether more budget helps."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from search.config.recipes import NETWORKS, VARIED, build_recipe
from search.config.stages import EPSILON
from search.records.trials import TrialRecord
from search.tuning.promotion import rank_trials

ADAPTED = ("model/width", "optim/lr", "optim/batch_size")  # fields of a recipe that a run may change to fit its limits


def name_recipe(config: Mapping[str, Any]) -> str:
    """Return the recipe that a flat configuration equals, apart from the ADAPTED fields; "" if none."""
    flat = {name: value for name, value in config.items() if name not in ADAPTED}
    return next((name for name, recipe in _build_recipes().items() if flat.items() <= recipe.items()), "")


@cache
def _build_recipes() -> dict[str, dict[str, Any]]:
    """Return the flat configuration of each recipe, built once, because a long search has thousands of trials."""
    return {name: build_recipe(name).flatten() for name in (*NETWORKS, *(f"{name}+{VARIED}" for name in NETWORKS))}


def describe_outlook(
    best: TrialRecord, records: Mapping[str, TrialRecord], reports: Iterable[Mapping[str, Any]]
) -> str:
    """Return a sentence on the lead of the best trial over the recipes and on the likely gain from more budget.

    The lead is measured for its ancestor in the latest stage that also trained a recipe. The gain is the rise of the
    score in the second half of the last training. The learning rate falls in that time, so a doubled budget can hardly
    bring more. `records` are all trials by id, `reports` the lines of reports.jsonl.
    """
    scores = [(float(line["fit_s"]), float(line["score"])) for line in reports if line["trial_id"] == best.trial_id]
    half_s = max((fit_s for fit_s, _ in scores), default=0.0) / 2
    early = max((score for fit_s, score in scores if fit_s <= half_s), default=None)
    if early is None:
        return _describe_lead(best, records)
    gain = best.score - early
    likely = "is likely to help" if gain > EPSILON else "is not likely to help much, larger images (--px) may"
    return f"{_describe_lead(best, records)}; the last half of its training gained {gain:+.3f}: more budget {likely}"


def warn_of_guess(metrics: Mapping[str, Any]) -> str:
    """Return a warning if a model, by its metrics.json, is not better than a constant guess on a split, else "".

    The recorded guess is the mean of the training data; the mean of the split itself scores about 0.
    """
    splits = {"val": "validation", "test": "test"}
    scored = [name for name in splits if "score" in metrics.get(name, {}).get("constant_guess", {})]
    worse = [name for name in scored if metrics[name]["score"] <= max(metrics[name]["constant_guess"]["score"], 0.0)]
    found = " and ".join(f"the {splits[name]} images (score {metrics[name]['score']:.3f})" for name in worse)
    guess = "the best constant guess, which scores about 0,"
    return found and f"The model is not better than {guess} on {found}: it needs more time or images"


def _describe_lead(best: TrialRecord, records: Mapping[str, TrialRecord]) -> str:
    """Return the lead of the best trial, or of its compared ancestor, over the best recipe."""
    if own := name_recipe(best.config):
        return f"The best trial is the recipe {own}"
    trial: TrialRecord | None = best
    while trial is not None:
        ranked = rank_trials([r for r in records.values() if r.stage == trial.stage])
        if recipe := next((r for r in ranked if name_recipe(r.config)), None):
            lead = trial.score - recipe.score
            name = name_recipe(recipe.config)
            return f"{trial.trial_id} is {lead:+.3f} from the best recipe, {name}, in {trial.stage}"
        trial = records.get(trial.parent_id)
    return "No recipe was trained beside the best trial"
