"""Losses of mask and depth.

`terms` has the pixel and structural terms, `ssim` the fast SSIM, `balance` the sum of both tasks, and `loss` the table
of terms and the config that mixes them.
"""

from models.losses.loss import LOSS_CHOICES, Loss, LossConfig, build_loss

__all__ = ["LOSS_CHOICES", "Loss", "LossConfig", "build_loss"]
