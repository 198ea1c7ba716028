"""Metrics: scores from logits and labels, quantiles with exact intervals from samples. Pure numpy."""

from moodbench.metrics import classification as classification  # registers the metrics
from moodbench.metrics.registry import METRICS, Metric, Predictions, get_metric, metric, score_all

__all__ = ["METRICS", "Metric", "Predictions", "get_metric", "metric", "score_all"]
