"""Validate a network during training and keep its best epoch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from data.data_module import StageData
from data.loading.device_loader import build_loader
from data.loading.visualize import quantise_predictions
from models.cost import choose_images_per_pass
from models.metrics import MetricSums
from search.config.trial import TrialConfig
from search.training.micro_batches import MicroBatchRunner


class Validator:
    """Measures a network on at most `max_images` validation images; returns predictions of the first `samples`.

    The size of the network of `config` decides how many images are predicted at once.
    """

    def __init__(
        self, config: TrialConfig, data: StageData, device: torch.device, *, max_images: int | None, samples: int
    ) -> None:
        pack = data.val.prefix(min(len(data.val), max_images or len(data.val)))
        images = choose_images_per_pass(config.model, pack.px, device)
        self.loader = build_loader(pack, device=device, batch_size=images, stats=data.stats)
        self.images, self.score, self.device, self.samples = len(pack), data.score, device, samples

    @torch.inference_mode()
    def validate(self, runner: MicroBatchRunner) -> tuple[dict[str, float], np.ndarray | None]:
        """Return the metrics of a network, and its predictions for the samples as bytes, if any."""
        runner.model.eval()
        sums, logged, missing = MetricSums(self.score), [], self.samples
        for batch in self.loader.epoch(0):
            batch = batch.to(self.device)
            prediction = runner.predict(batch)
            sums.update(prediction, batch.target)
            if missing > 0:
                logged.append(quantise_predictions(prediction[:missing]))
                missing -= len(batch)
        return sums.compute(), np.concatenate(logged) if logged else None


@dataclass
class BestEpoch:
    """The epoch with the best score so far; on little data, a long training overfits even though it anneals."""

    # validation metrics, with the epoch as `best_epoch`; empty before the first epoch
    metrics: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)  # state dict of the network

    def update(self, metrics: dict[str, float], epoch: int, model: nn.Module) -> None:
        """Keep an epoch if its score is better than all earlier scores."""
        if not self.metrics or metrics["score"] > self.metrics["score"]:
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            self.metrics = {**metrics, "best_epoch": epoch}
