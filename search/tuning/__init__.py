"""Tuning: the stages of a run, from search to repeats; `search.tuning.ray` trains their trials."""
