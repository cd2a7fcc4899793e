"""Losses of mask and depth: `terms` defines the terms, `loss` their table, their sum and its config."""
