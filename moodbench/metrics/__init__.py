"""Metrics: scores from logits and labels, quantiles with exact intervals from samples. Pure numpy."""

from moodbench.metrics.classification import METRICS, Metric, Predictions, get_metric, metric, score_all
