"""Losses of mask and depth: `terms` has the terms, `loss` their table, the config that mixes them, and the sum."""

from models.losses.loss import LOSS_CHOICES, Loss, LossConfig, build_loss

__all__ = ["LOSS_CHOICES", "Loss", "LossConfig", "build_loss"]
