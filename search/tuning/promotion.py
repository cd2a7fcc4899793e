"""Promotion rules: which trials enter the next stage, and which checkpoints are kept; functions of trial records."""

import math
import random
from collections.abc import Callable, Collection, Sequence

import numpy as np

from search.config.stages import EPSILON, KEPT_CHECKPOINTS, Stage
from search.records.trials import TrialRecord
from search.study.pareto import compute_hypervolume, find_pareto_front


def rank_trials(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records with a score, best first; ties go to fewer parameters, then to the earlier trial."""
    scored = [r for r in records if math.isfinite(r.score) and r.status != "failed"]
    return sorted(scored, key=lambda r: (-r.score, _params(r), r.trial_id))


def select_pareto_front(
    records: Sequence[TrialRecord], costs: Callable[[TrialRecord], tuple[float, ...]]
) -> list[TrialRecord]:
    """Return the records on the Pareto front of score and costs, best first."""
    order = rank_trials(records)
    return [order[i] for i in find_pareto_front([r.score for r in order], [costs(r) for r in order])]


def order_for_promotion(records: Sequence[TrialRecord], objectives: Sequence[str]) -> list[TrialRecord]:
    """Return the ranked records; with several objectives, those of the Pareto front come first.

    The best score is first; each further trial adds the most hypervolume to those before it, measured from the score of
    a constant guess (0) and from the highest costs of the records, with costs on a logarithmic scale.
    """
    order, costs = rank_trials(records), objectives[1:]
    if not (costs and order):
        return order
    logs = np.log([[float(r.metrics[name]) for name in costs] for r in order])
    scaled = (logs - logs.min(0)) / np.maximum(np.ptp(logs, axis=0), 1e-9)
    points = {r.trial_id: (1 - r.score, *map(float, row)) for r, row in zip(order, scaled, strict=True)}
    front = select_pareto_front(order, lambda r: points[r.trial_id][1:])
    chosen = front[:1]
    reference = (1.0, *[1.1] * len(costs))
    while len(chosen) < len(front):
        left, taken = [r for r in front if r not in chosen], [points[r.trial_id] for r in chosen]
        chosen.append(max(left, key=lambda r: compute_hypervolume([*taken, points[r.trial_id]], reference)))
    return chosen + [r for r in order if r not in chosen]


def choose_finalist_to_continue(
    records: Sequence[TrialRecord], finalists: Sequence[TrialRecord], excluded: Collection[str]
) -> TrialRecord | None:
    """Return the best finalist if an extended run trains it further instead of promoting one of `records`, else None.

    `finalists` are the trials that the last stage has trained before, `records` those of the stage before it. A record
    newer than all finalists is promoted if its score exceeds those of the older records by more than EPSILON, a
    difference that is not noise. `excluded` trials are not continued.
    """
    kept = [r for r in rank_trials(finalists) if r.trial_id not in excluded]
    if not (kept and records):
        return None
    latest_s = max(r.started_s for r in finalists)
    newer, older = ([r.score for r in rank_trials(records) if (r.started_s > latest_s) == new] for new in (True, False))
    is_newer_better = bool(newer) and (not older or newer[0] > older[0] + EPSILON)
    return None if is_newer_better else kept[0]


def promote(
    records: Sequence[TrialRecord], stage: Stage, *, seed: int, excluded: Collection[str] = ()
) -> list[TrialRecord]:
    """Select the trials that `stage` continues, from the `records` of the previous stage.

    These are the best trials in order, if within `epsilon` of the first one, then the controls. The last of the best
    places go to the smallest network on the Pareto front and to the best pretrained one, if they beat a constant guess.
    The first trial is the one tried first among those within `earlier_margin` of the best score.

    `excluded` trials have been promoted already, or their weights are gone.
    """
    order = order_for_promotion(records, stage.objectives)
    available = [r for r in order if r.trial_id not in excluded]
    if stage.earlier_margin and available:
        least = available[0].score - stage.earlier_margin
        first = min((r for r in available if r.score >= least), key=lambda r: r.trial_id)
        available = [first, *(r for r in available if r is not first)]
    included = _find_smallest_network(available) if stage.include_smallest else []
    included += [r for r in _find_best_pretrained(available) if stage.include_pretrained and r not in included]
    base = available[0].score if available else 0.0
    near = [r for r in available if base - stage.epsilon <= r.score <= base + stage.epsilon]
    others = [r for r in near if r not in included][: max(stage.top_k - len(included), 0)]
    best = [r for r in available if r in included or r in others]
    lower_half = [r for r in order[len(order) // 2 :] if r in available and r not in best]
    return best + select_controls(lower_half, stage.controls, seed=seed)


def select_controls(records: Sequence[TrialRecord], count: int, *, seed: int) -> list[TrialRecord]:
    """Draw control trials; the order of two trials depends only on the seed and their names."""
    return sorted(records, key=lambda r: random.Random(f"{seed} {r.trial_id}").random())[:count]


def select_checkpoints(
    records: Sequence[TrialRecord], *, seed: int, objectives: Sequence[str] = ("score",)
) -> set[str]:
    """Return the trials of one stage that `promote` may select, now or after the run is extended."""
    order = rank_trials(records)
    costs = objectives[1:]
    front = select_pareto_front(order, lambda r: tuple(float(r.metrics[name]) for name in costs)) if costs else []
    included = [*front, *_find_smallest_network(order), *_find_best_pretrained(order)]
    kept = [*order[:KEPT_CHECKPOINTS], *included, *select_controls(order, KEPT_CHECKPOINTS, seed=seed)]
    return {r.trial_id for r in kept}


def group_finalists(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """Group the trials of the last stage and its repeats by configuration and initial weights, the best group first.

    Groups are ranked by the mean score over their seeds. Scores of trials without repeats are optimistic (winner's
    curse); they are reduced by the mean drop seen in repeated trials.
    """
    groups: dict[str, list[TrialRecord]] = {}
    for record in rank_trials(records):
        groups.setdefault(record.parent_id or record.trial_id, []).append(record)
    drops = [min(g, key=lambda r: r.started_s).score - _compute_mean_score(g) for g in groups.values() if len(g) > 1]
    discount = sum(drops) / len(drops) if drops else 0.0
    return sorted(groups.values(), key=lambda g: -_compute_mean_score(g) + discount * (len(g) == 1))


def _compute_mean_score(group: Sequence[TrialRecord]) -> float:
    return sum(record.score for record in group) / len(group)


def _find_smallest_network(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the smallest network on the Pareto front that beats a constant guess (score 0), if there is one."""
    return [r for r in select_pareto_front(records, lambda r: (_params(r),)) if r.score > 0][-1:]


def _find_best_pretrained(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the first of the ranked records with a pretrained network that beats a constant guess, if there is one."""
    return [r for r in records if r.config.get("model/weights", "none") != "none" and r.score > 0][:1]


def _params(record: TrialRecord) -> float:
    return float(record.metrics.get("params", math.inf))
