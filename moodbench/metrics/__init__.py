"""Logits and labels to scores, samples to quantiles with exact intervals: pure numpy."""
