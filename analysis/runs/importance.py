"""Hyperparameter importance by Optuna's PED-ANOVA over a run's study, for all trials and for each architecture.

This module reads study.journal and trials.csv and writes nothing, so it does not disturb a running search.
"""

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, create_trial

from analysis.runs.files import read_lines
from analysis.runs.tables import load_trials
from search.study.journal import find_study

ALL = "all"
ARCH = "model/arch"
COLUMNS = ["architecture", "parameter", "importance", "chance"]
MIN_TRIALS = 10  # architectures with fewer trials are left out
TOP, TOP_SHARE = 5, 0.1  # good trials: the best tenth, at least five, as Optuna advises
MAX_TRIALS = 500  # trials of an architecture, evenly spaced over the search; the estimate takes seconds for this many
MAX_READ = 4000  # trials whose parameters are read, evenly spaced; reading all would dominate a long search's report
CREATE_TRIAL, SET_PARAMETER, SET_INTERMEDIATE_VALUE = 4, 5, 7  # op_code of the lines of Optuna's journals
SHUFFLES = 5  # shuffles of the scores that estimate the importance arising by chance

StudyTrials = list[FrozenTrial]


def compute_importances(run: Path, study: StudyTrials) -> pd.DataFrame:
    """Estimate how much each parameter decides whether a trial is among the best of a run's search, its `study`.

    Only trials that ended with a score count. Trials stopped early rank below all completed ones, whatever their score:
    without them, as in Optuna's default, parameters that cause trials to be stopped would look unimportant. Conditional
    parameters count where they exist. The importances of an architecture ("all" or a name) sum to 1, and the most
    important parameter is first. `chance` is the maximum over five shuffles of the scores; it is high for few trials,
    most of all for real-valued parameters. Architectures with fewer than ten such trials are left out; of more than
    MAX_TRIALS, at most MAX_TRIALS count, evenly spaced.

    Source: Watanabe et al. 2023, arXiv:2304.10255 (PED-ANOVA), for conditional parameters arXiv:2601.20800.
    """
    trials = select_scored_trials(Path(run), study)
    groups = {ALL: trials}
    for trial in trials:
        groups.setdefault(str(trial.params.get(ARCH)), []).append(trial)
    counted = {name: group[:: -(-len(group) // MAX_TRIALS) or 1] for name, group in groups.items()}
    tables = [
        _rank_parameters(group).rename_axis("parameter").reset_index().assign(architecture=name)
        for name, group in counted.items()
        if len(group) >= MIN_TRIALS
    ]
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)


def select_scored_trials(run: Path, study: StudyTrials) -> StudyTrials:
    """Return the trials of a study that have a score in the run's trials.csv, with their rank as value (0 = worst)."""
    if not study or not (run / "trials.csv").is_file():
        return []
    table = load_trials(run).set_index("trial_id")
    scored = table[(table["status"] != "failed") & table["score"].notna()]
    order = scored.assign(ended=scored["status"] != "stopped").sort_values(["ended", "score"], kind="stable")
    ranks = {trial_id: rank for rank, trial_id in enumerate(order.index)}
    return [
        create_trial(value=ranks[trial_id], params=trial.params, distributions=trial.distributions)
        for trial in study
        if trial.params and (trial_id := trial.user_attrs.get("trial_id")) in ranks
    ]


def load_study(run: Path) -> StudyTrials:
    """Return all trials of a run's newest study, including rejected ones.

    Intermediate scores are not loaded. If there are more than MAX_READ trials, only evenly spaced ones have parameters.
    """
    study = find_study(JournalStorage(_ReadOnlyJournal(Path(run) / "study.journal")))
    return [] if study is None else study.get_trials(deepcopy=False)


def _rank_parameters(trials: list[FrozenTrial]) -> pd.DataFrame:
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # otherwise Optuna logs every study
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    ranks, rng = np.array([trial.value for trial in trials]), np.random.default_rng(0)
    found = _measure_divergences(study, ranks)
    by_chance = pd.DataFrame([_measure_divergences(study, rng.permutation(ranks)) for _ in range(SHUFFLES)]).max()
    shares = pd.DataFrame({"importance": found, "chance": by_chance}) / (found.sum() or 1.0)
    return shares.sort_values("importance", ascending=False, kind="stable")


def _measure_divergences(study: optuna.Study, ranks: np.ndarray) -> pd.Series:
    """Return the PED-ANOVA divergence of each parameter for these ranks of the trials."""
    good = max(TOP, math.ceil(TOP_SHARE * len(ranks)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=good / len(ranks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about branches of the space with a single trial
        values = get_param_importances(study, evaluator=evaluator, target=lambda t: -ranks[t.number], normalize=False)
    return pd.Series(values, dtype=float).sort_index()


class _ReadOnlyJournal(BaseJournalBackend):
    """A study's journal, read once, without curves; an incomplete last line, still being written, is left out."""

    def __init__(self, path: Path) -> None:
        logs = read_lines(path)
        step = sum(log["op_code"] == CREATE_TRIAL for log in logs) // MAX_READ + 1
        read = [log for log in logs if log["op_code"] != SET_PARAMETER or log["trial_id"] % step == 0]
        self._logs = [log for log in read if log["op_code"] != SET_INTERMEDIATE_VALUE]

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError("the study of a run is read-only here")
