"""Metrics of mask and depth: `metrics` has the reported metrics and the score, `checkerboard` that of artefacts."""

from models.metrics.metrics import MetricSums, full_metrics, predict_constant, score, score_metrics, select_images

__all__ = ["MetricSums", "full_metrics", "predict_constant", "score", "score_metrics", "select_images"]
