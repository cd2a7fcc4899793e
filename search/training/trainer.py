"""Train and validate one configuration. `fit` is the only training loop of the search and needs neither Ray nor Optuna.

The learning rate is a function of progress, which counts time as well as steps, so the rate has annealed when a
training reaches its time limit. Equal seeds give equal results, whether or not a training is resumed. Given the clock
readings of an earlier training, `fit` reproduces it; see `one-look reproduce`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.data_module import StageData
from data.loading.device_loader import build_loader
from data.loading.loaders import Batch
from models.architectures.registry import build_model
from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from search.config.trial import TrialConfig
from search.training.loss_means import LossMeans
from search.training.lr_schedules import Policy, compute_peak_fraction
from search.training.micro_batches import MicroBatchRunner, uses_bfloat16
from search.training.optimizer import build_optimizer, set_learning_rate
from search.training.time_limit import Clock, Readings
from search.training.validation import BestEpoch, Validator
from search.training.weight_average import WeightAverage

STATE_FILE = "state.pt"  # in the folder of a checkpoint
FINITE_CHECK_STEPS = 16  # steps between two checks of the loss, because each waits for a GPU
State = dict[str, Any]
Report = Callable[[dict[str, Any], Callable[[], State]], None]
OnStep = Callable[[float, Tensor], None]


class TrialDivergedError(RuntimeError):
    """The loss or the score is not finite; the message names the epoch, and `replay` reproduces it."""

    def __init__(self, message: str, replay: dict[str, Any]) -> None:
        super().__init__(message)
        self.replay = replay


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """Length, seed and machine settings of one training."""

    epochs: int  # planned passes over the training data
    seed: int = 0  # seed of weights, order and augmentation
    encoder: str | None = None  # file of the converted weights of --encoder-weights
    refine: float = 0.0  # final fraction of the progress, without augmentation and with `build_refinement_loss`
    device: str = "cpu"
    precision: str = "auto"  # or "float32" or "bfloat16"
    samples: int = 0  # validation images, from the first, whose predictions are reported each epoch
    micro_batch_size: int | None = None  # most images in one pass; None runs whole batches until memory runs out
    max_val_images: int | None = None  # largest number of validation images, from the first; None for all


def fit(
    config: TrialConfig,
    data: StageData,
    plan: FitPlan,
    *,
    report: Report,
    on_step: OnStep | None = None,
    weights: State | None = None,
    resume: State | None = None,
    limit_s: float | None = None,
    recorded_clock: Sequence[Readings] | None = None,
    policy: Policy | None = None,
) -> nn.Module:
    """Train and validate one configuration; return the network in evaluation mode.

    `report` is called after each epoch with its metrics, those of the best epoch so far as `best`, and a function that
    returns the state to resume from; `on_step` after each optimizer step with its learning rate and its loss, which is
    still on its device. Training starts from `weights`, such as those of a promoted trial, or after the epoch of a
    state to `resume`; it ends after `plan.epochs` epochs or `limit_s` seconds. `recorded_clock` contains the clock
    readings of a training to reproduce, one list per epoch; they replace the time. `policy` replaces the learning-rate
    policy of `config`.

    Raise TrialDivergedError, TrialOutOfMemoryError, or ConfigError if published weights cannot be read.
    """
    trainer = Trainer(config, data, plan, limit_s=limit_s, recorded_clock=recorded_clock, policy=policy)
    if resume is not None:
        trainer.load_state_dict(resume)
    elif weights is not None:
        trainer.model.load_state_dict(weights)
    else:
        trainer.model.load_pretrained(Path(plan.encoder) if plan.encoder else None)
    last = trainer.epoch >= plan.epochs
    while not last:
        metrics = trainer.run_epoch(on_step)
        report(metrics, trainer.state_dict)
        last = metrics["last"]
    return trainer.model.eval()


class Trainer:
    """The state of one call of `fit`: network, average, loss, optimizer, loaders, clock and the best epoch so far."""

    def __init__(
        self,
        config: TrialConfig,
        data: StageData,
        plan: FitPlan,
        *,
        limit_s: float | None,
        recorded_clock: Sequence[Readings] | None,
        policy: Policy | None,
    ) -> None:
        torch.manual_seed(plan.seed)
        data = replace(data, stats=data.stats.for_network(config.model))
        self.config, self.data, self.plan = config, data, plan
        self.device, self.policy = torch.device(plan.device), policy or partial(compute_peak_fraction, config.schedule)
        self.model = build_model(config.model)
        mask, depth = (0.5 if mean is None else mean for mean in (data.stats.mask_mean, data.stats.depth_mean))
        self.model.set_prior(mask=mask, depth=depth)
        self.model.move_to(self.device)
        self.average = WeightAverage(self.model)
        self.runner, self.validation_runner = (
            MicroBatchRunner(
                model,
                bfloat16=uses_bfloat16(plan.precision, self.device),
                micro_batch_size=plan.micro_batch_size,
                shares_memory=self.device.type == "cuda",
            )
            for model in (self.model, self.average.model)
        )
        self.loss = build_loss(config.loss, data.train.px).to(self.device)
        self.optimizer = build_optimizer(config.optim, [self.model, self.loss])
        began = time.monotonic()  # copying many images to a GPU takes seconds
        batch_size = min(config.optim.batch_size, len(data.train))
        self.train_loader = build_loader(
            data.train,
            device=self.device,
            batch_size=batch_size,
            stats=data.stats,
            augment=config.augment,
            seed=plan.seed,
            shuffle=True,
            drop_last=True,
        )
        self.validator = Validator(config, data, self.device, max_images=plan.max_val_images, samples=plan.samples)
        self.epoch, self.images_seen, self.refining, self.best = 0, 0, False, BestEpoch()
        steps, validation_steps = plan.epochs * len(self.train_loader), self.validator.images / batch_size
        self.clock = Clock(steps, limit_s, validation_steps=validation_steps, recorded=recorded_clock)
        self.clock.started = began

    def run_epoch(self, on_step: OnStep | None) -> dict[str, Any]:
        """Train and validate one epoch and return its report; after the last one, restore the best weights."""
        for runner in (self.runner, self.validation_runner):
            runner.begin_epoch()
        trained = self.train_epoch(on_step)
        self.epoch += 1
        last = self.epoch >= self.plan.epochs or self.clock.progress >= 1.0
        metrics, predictions = self.validate()
        self.best.update(metrics, self.epoch, self.average.model)
        if last:
            self.model.load_state_dict(self.best.weights)
        report = {
            "epoch": self.epoch,
            "last": last,
            "out_of_time": last and self.epoch < self.plan.epochs,
            **trained,
            **metrics,
            "best": self.best.metrics,
            "images_seen": self.images_seen,
            "fit_s": self.clock.used,
            "progress": self.clock.progress,
            "micro_batch_size": min(self.runner.micro_batch_size or math.inf, self.config.optim.batch_size),
            "replay": self.describe_replay(),
        }
        return report if predictions is None else {**report, "predictions": predictions}

    def train_epoch(self, on_step: OnStep | None) -> dict[str, float]:
        """Train one epoch, or less if the clock ends it, and return its mean losses and its learning rate."""
        self.model.train()
        begin, means = time.monotonic(), LossMeans()
        self.clock.begin_epoch()
        for step, batch in enumerate(self.train_loader.epoch(self.epoch), start=1):
            rate = self._prepare_step()
            losses, shares = self._step(batch.to(self.device))
            means.update(losses, shares)
            self.images_seen += len(batch)
            self.clock.step()
            if on_step is not None:
                on_step(rate, losses["total"])
            if step % FINITE_CHECK_STEPS == 0:
                self._check_finite(means.total, "loss", self.epoch + 1)
            if self.clock.progress >= 1.0:
                break
        self._check_finite(means.total, "loss", self.epoch + 1)
        return {**means.compute(), "lr": rate, "train_s": time.monotonic() - begin}

    def validate(self) -> tuple[dict[str, float], Any]:
        """Return validation metrics and logged predictions of the averaged weights; record the time that this takes."""
        begin = time.monotonic()
        metrics, predictions = self.validator.validate(self.validation_runner)
        self.clock.end_validation(time.monotonic() - begin)
        self._check_finite(metrics["score"], "score", self.epoch)
        return metrics, predictions

    def _prepare_step(self) -> float:
        """Start the refinement if it is due, set the learning rate and return it."""
        progress = self.clock.progress
        if self.plan.refine and not self.refining and progress >= 1.0 - self.plan.refine:
            self._start_refinement()
        rate = self.config.optim.lr * self.policy(progress)
        set_learning_rate(self.optimizer, rate)
        return rate

    def _step(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the losses of a batch and the share of its images that is labelled for each task."""
        losses = self.runner.backward(batch, self.loss)
        if self.config.optim.clip_norm:
            nn.utils.clip_grad_norm_(self.runner.parameters, self.config.optim.clip_norm)
        self.optimizer.step()
        self.average.update()
        mask, depth = batch.target.count_labelled() / len(batch)
        return losses, {"total": 1, "mask": mask, "depth": depth}

    def _start_refinement(self) -> None:
        self.refining = True
        self.loss = build_loss(build_refinement_loss(self.config.loss), self.data.train.px).to(self.device)
        self.train_loader.stop_augmenting()

    def _check_finite(self, value: float, name: str, epoch: int) -> None:
        if not math.isfinite(value):
            raise TrialDivergedError(f"{name} is {value} in epoch {epoch}", self.describe_replay())

    def describe_replay(self) -> dict[str, Any]:
        """Return the plain values that reproduce this epoch, given configuration, weights and data."""
        precision = "bfloat16" if self.runner.bfloat16 else "float32"
        plan = replace(self.plan, precision=precision, micro_batch_size=self.runner.micro_batch_size, samples=0)
        return {"clock": self.clock.readings, "threads": torch.get_num_threads(), "plan": asdict(plan)}

    def state_dict(self) -> State:
        """Return the state from which `load_state_dict` continues as if the training had not been interrupted."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "images_seen": self.images_seen,
            "clock": self.clock.state_dict(),
            "refining": self.refining,
            "micro_batch_size": self.runner.micro_batch_size,
            "best": dict(vars(self.best)),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore a state that `state_dict` returned; use the smaller of its micro-batch size and the plan's."""
        self.clock.load_state_dict(state["clock"])
        if state["refining"]:
            self._start_refinement()
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.images_seen, self.best = state["epoch"], state["images_seen"], BestEpoch(**state["best"])
        limits = [limit for limit in (self.plan.micro_batch_size, state["micro_batch_size"]) if limit is not None]
        self.runner.micro_batch_size = min(limits, default=None)


def build_refinement_loss(loss: LossConfig) -> LossConfig:
    """Return the loss of the refinement: a fixed balance with twice the mask weight."""
    return replace(loss, balance="fixed", mask_weight=2.0 * loss.mask_weight)
