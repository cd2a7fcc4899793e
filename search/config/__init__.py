"""Options, budget, stages and constraints of a run, and the configuration of a trial.

`search.config.trial`, `.recipes` and `.constraints` import torch and are imported from there.
"""

from search.config.budget import Budget, BudgetError, parse_budget
from search.config.options import RunOptions
from search.config.stages import STAGE_PRESETS, Stage, build_stages

__all__ = ["STAGE_PRESETS", "Budget", "BudgetError", "RunOptions", "Stage", "build_stages", "parse_budget"]
