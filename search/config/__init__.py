"""The configuration of a trial, the recipes, and grids of configurations."""

from search.config.grid import read_grid
from search.config.recipes import RECIPES, STARTERS, build_recipe
from search.config.trial import OptimConfig, ScheduleConfig, TrialConfig

__all__ = ["RECIPES", "STARTERS", "OptimConfig", "ScheduleConfig", "TrialConfig", "build_recipe", "read_grid"]
