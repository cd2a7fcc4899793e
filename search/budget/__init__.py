"""The budget of a run, its allocation to stages and trials, and the constraints on a network's cost.

`search.budget.allocation` and `search.budget.constraints` import torch and are imported from there.
"""

from search.budget.budget import Budget, BudgetError, Deadlines, extend_budget, parse_budget, plan_deadlines

__all__ = ["Budget", "BudgetError", "Deadlines", "extend_budget", "parse_budget", "plan_deadlines"]
