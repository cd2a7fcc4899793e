"""Losses of mask and depth: `terms` defines the terms, `registry` names them, `loss` mixes and sums them."""
