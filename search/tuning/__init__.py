"""Tuning: the stages of a run, from search to repeats; `search.tuning.ray` trains their trials.

Nothing is re-exported here, because most modules import Ray or torch; import from the modules.
"""
