"""Tuning: the stages of a run as one Ray Tune experiment, from search to repeats.

Only the stages and promotion rules are exported here, because all other modules import Ray: import
from `search.tuning.stage_runner`, `.ray_tune`, `.searchers`, `.trainable`, `.checkpoints`, `.cluster`.
"""

from search.tuning.stages import STAGE_PRESETS, Stage, build_stages, find_pareto_front

__all__ = ["STAGE_PRESETS", "Stage", "build_stages", "find_pareto_front"]
