"""Losses of mask and depth: `terms` defines the terms, `loss` their table, their sum and its config."""

from models.losses.loss import LOSS_CHOICES, Loss, LossConfig, build_loss

__all__ = ["LOSS_CHOICES", "Loss", "LossConfig", "build_loss"]
