"""The one training loop. Knows neither Ray nor Optuna: whoever wants to listen passes `report`.

A run that the clock cuts short has annealed all the same, for the learning rate is a function of progress and progress
counts time as well as steps. Same seed, same numbers; a run resumed at an epoch equals one that never stopped, and one
that is given an earlier run's readings of the clock equals that run. From the command line, that of a run's trial:

    python -m search.reproduce RUN TRIAL_ID
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.data_module import StageData
from data.loading.loaders import Batch, Loader
from data.visualize import quantise_predictions
from models.build import build_model
from models.cost import choose_images_per_pass
from models.losses.loss import LossConfig, build_loss
from models.metrics.metrics import MetricSums
from search.config.trial import OptimConfig, TrialConfig
from search.training.clock import Clock, Readings, RecordedClock
from search.training.lr_schedules import learning_rate
from search.training.micro_batches import Passes

STATE_FILE = "state.pt"  # in the folder of a checkpoint
State = dict[str, Any]
Report = Callable[[dict[str, Any], Callable[[], State]], None]
OnStep = Callable[[float, Tensor], None]


class TrialDivergedError(RuntimeError):
    """The loss is no longer a finite number; the message names the epoch.

    Attributes:
        replay: What a repetition of the epoch needs, as reports carry it.
    """

    def __init__(self, message: str, replay: dict[str, Any]) -> None:
        super().__init__(message)
        self.replay = replay


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """How long and on what a trial trains.

    Attributes:
        epochs: Passes over the training data planned.
        seed: Seed of weights, order and augmentation.
        refine: Last part of the progress trained without augmentation and with the mask favoured; 0 switches it off.
        device: torch device.
        precision: "auto", "float32" or "bfloat16".
        loader_workers: Processes that prepare batches; 0 prepares them in this one.
        pictures: Validation images, from the first, whose predictions each report carries.
        at_once: Most images that go through the network at once; the gradients of a larger batch are added up from
            parts. None: whole batches, until memory runs out.
        val_images: Validation images, from the first, that are measured at the most; None for all.
    """

    epochs: int
    seed: int = 0
    refine: float = 0.0
    device: str = "cpu"
    precision: str = "auto"
    loader_workers: int = 0
    pictures: int = 0
    at_once: int | None = None
    val_images: int | None = None


def fit(
    config: TrialConfig,
    data: StageData,
    plan: FitPlan,
    *,
    report: Report,
    on_step: OnStep | None = None,
    weights: State | None = None,
    resume: State | None = None,
    limit: float | None = None,
    recorded: Sequence[Readings] | None = None,
) -> nn.Module:
    """Train and validate one configuration.

    Args:
        config: What to train.
        data: What to train on.
        plan: How long, with which seed, where.
        report: Called after each epoch with its figures and a function that returns the state to resume from.
        on_step: Called after each step of the optimizer with its learning rate and the loss, still on its device.
        weights: Weights to start from (a promotion).
        resume: A state handed to `report` earlier; training goes on behind that epoch.
        limit: Seconds allowed; None leaves `plan.epochs` the only end.
        recorded: Readings of the clock of a run to repeat, epoch by epoch; they take the place of the time.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        TrialDiverged: A loss was not finite.
        DoesNotFit: There is no memory for even one image.
    """
    run = _Run(config, data, plan, limit, recorded)
    if weights is not None:
        run.model.load_state_dict(weights)
    if resume is not None:
        run.load(resume)
    last = run.epoch >= plan.epochs
    while not last:
        trained = run.train_epoch(on_step)
        run.epoch += 1
        last = run.epoch >= plan.epochs or run.clock.progress >= 1.0
        figures = {**trained, **run.keep_best(run.validate(), last=last)}
        ending = {"last": last, "out_of_time": last and run.epoch < plan.epochs}
        report({"epoch": run.epoch, **ending, **figures, **run.spent(), "replay": run.replay(), **run.shown}, run.state)
    return run.model.eval()


class _Run:
    """Everything that lives as long as one call of fit."""

    def __init__(
        self,
        config: TrialConfig,
        data: StageData,
        plan: FitPlan,
        limit: float | None,
        recorded: Sequence[Readings] | None,
    ) -> None:
        torch.manual_seed(plan.seed)
        self.config, self.data, self.plan = config, data, plan
        self.device = torch.device(plan.device)
        self.model = build_model(config.model)
        means = (data.stats.mask_mean, data.stats.depth_mean)
        mask, depth = (0.5 if mean is None else mean for mean in means)
        self.model.set_prior(mask=mask, depth=depth)
        self.model.on(self.device)
        bfloat16 = uses_bfloat16(plan.precision, self.device)
        self.passes = Passes(self.model, bfloat16=bfloat16, at_once=plan.at_once)
        self.loss = build_loss(config.loss, data.train.px).to(self.device)
        self.optimizer = build_optimizer(config.optim, [self.model, self.loss])
        self.train_loader = Loader(
            data.train,
            batch_size=min(config.optim.batch_size, len(data.train)),
            stats=data.stats,
            augment=config.augment,
            seed=plan.seed,
            shuffle=True,
            drop_last=True,
            workers=plan.loader_workers,
        )
        val = data.val.prefix(min(len(data.val), plan.val_images or len(data.val)))
        self.val_loader = Loader(val, batch_size=choose_images_per_pass(config.model, val.px), stats=data.stats)
        self.epoch, self.images, self.refining = 0, 0, False
        self.best: State = {}
        self.shown: dict[str, np.ndarray] = {}
        steps, batch_size = plan.epochs * len(self.train_loader), min(config.optim.batch_size, len(data.train))
        self.clock = Clock(steps, limit, validation=len(val) / batch_size)
        if recorded is not None:
            self.clock = RecordedClock(steps, recorded)

    def train_epoch(self, on_step: OnStep | None) -> dict[str, float]:
        """Train one pass, or less where the clock ends it; return the mean of each loss part.

        A batch's loss of a task is a mean over its images that have it; in the epoch's it weighs as many as those are.
        A task that no image had is left out.
        """
        self.model.train()
        begin = time.monotonic()
        sums: Counter[str] = Counter()
        known: Counter[str] = Counter()  # steps, each counted by the part of its images that has the task
        self.clock.begin_epoch()
        for steps, batch in enumerate(self.train_loader.epoch(self.epoch), start=1):
            rate = self._prepare_step()
            losses, shares = self._step(batch.to(self.device, channels_last=True))
            sums.update({name: loss * shares[_task(name)] for name, loss in losses.items()})
            known.update(shares)
            self.images += len(batch)
            self.clock.step()
            if on_step is not None:
                on_step(rate, losses["total"])
            if steps % 16 == 0:
                self._check_finite(sums)
            if self.clock.progress >= 1.0:
                break
        self._check_finite(sums)
        means = {f"train_{n}": float(value) / float(known[_task(n)]) for n, value in sums.items() if known[_task(n)]}
        return {**means, "lr": rate, "train_s": time.monotonic() - begin}

    def _prepare_step(self) -> float:
        """Set what depends on progress: the learning rate, the refinement."""
        progress = self.clock.progress
        if self.plan.refine and not self.refining and progress >= 1.0 - self.plan.refine:
            self._enter_refinement()
        rate = self.config.optim.lr * learning_rate(self.config.schedule, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _step(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the losses of a batch, and the part of its images that has what they are about."""
        losses = self.passes.backward(batch, self.loss)
        if self.config.optim.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        self.optimizer.step()
        mask, depth = batch.target.count_labelled() / len(batch)
        return losses, {"total": 1, "mask": mask, "depth": depth}

    def _enter_refinement(self) -> None:
        """From here on the loss favours the mask and nothing is augmented."""
        self.refining = True
        self.loss = build_loss(refined(self.config.loss), self.data.train.px).to(self.device)
        self.train_loader.stop_augmenting()

    def _check_finite(self, sums: Counter[str]) -> None:
        if not math.isfinite(sums["total"]):
            raise TrialDivergedError(f"loss is {float(sums['total'])} in epoch {self.epoch + 1}", self.replay())

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Return the validation figures of the network as it is."""
        begin = time.monotonic()
        self.model.eval()
        sums, pictures, wanted = MetricSums(), [], self.plan.pictures
        for batch in self.val_loader.epoch(0):
            batch = batch.to(self.device, channels_last=True)
            prediction = self.passes.predict(batch)
            sums.update(prediction, batch.target)
            if wanted > 0:
                pictures.append(quantise_predictions(prediction[:wanted]))
                wanted -= len(batch)
        if pictures:
            self.shown = {"pictures": np.concatenate(pictures)}
        self.clock.validated(time.monotonic() - begin)
        figures = sums.compute(self.data.sigma)
        if not math.isfinite(figures["score"]):
            raise TrialDivergedError(f"score is {figures['score']} after epoch {self.epoch}", self.replay())
        return figures

    def keep_best(self, figures: dict[str, float], *, last: bool) -> dict[str, float]:
        """Remember the best epoch; after the last one, put its weights back and return its figures.

        On small data a long run overfits although it anneals; the validation part is there to notice.
        """
        if not self.best or figures["score"] > self.best["metrics"]["score"]:
            weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"metrics": {**figures, "best_epoch": self.epoch}, "weights": weights}
        if not last:
            return {**figures, "best_epoch": self.best["metrics"]["best_epoch"]}
        self.model.load_state_dict(self.best["weights"])
        if self.best["metrics"]["best_epoch"] != self.epoch:
            self.shown = {}  # they are of other weights than the figures; those of the best epoch were shown then
        return dict(self.best["metrics"])

    def spent(self) -> dict[str, float]:
        """Return what the run has used so far."""
        batch, most = self.config.optim.batch_size, self.passes.parts.at_once
        at_once = batch if most is None else min(batch, most)
        used = {"images_seen": self.images, "fit_s": self.clock.used, "progress": self.clock.progress}
        return {**used, "at_once": at_once}

    def replay(self) -> dict[str, Any]:
        """Return what a repetition of this epoch needs beside configuration, weights and data, as plain values."""
        precision = "bfloat16" if self.passes.bfloat16 else "float32"
        plan = replace(self.plan, precision=precision, at_once=self.passes.parts.at_once, pictures=0)
        return {"clock": self.clock.readings, "threads": torch.get_num_threads(), "plan": asdict(plan)}

    def state(self) -> State:
        """Return all that `load` needs to go on as if nothing had happened."""
        return {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "images": self.images,
            "clock": self.clock.state(),
            "refining": self.refining,
            "at_once": self.passes.parts.at_once,
            "best": self.best,
        }

    def load(self, state: State) -> None:
        """Take up a state that `state` returned."""
        self.clock.load(state["clock"])
        if state["refining"]:
            self._enter_refinement()
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.images, self.best = state["epoch"], state["images"], state["best"]
        caps = [most for most in (self.plan.at_once, state["at_once"]) if most is not None]
        self.passes.parts.at_once = min(caps, default=None)


def _task(loss: str) -> str:
    """Return what a named part of the loss is about: "mask", "depth", or "total"."""
    return loss.partition("_")[0]


def refined(loss: LossConfig) -> LossConfig:
    """Return the loss of the refinement: a fixed balance in which the mask counts double."""
    return replace(loss, balance="fixed", mask_weight=2.0 * loss.mask_weight)


def build_optimizer(config: OptimConfig, modules: list[nn.Module]) -> torch.optim.Optimizer:
    """Return the optimizer; biases, norms and loss balances are not decayed."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999))


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether to run the network in bfloat16; "auto" does where the processor computes in it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
