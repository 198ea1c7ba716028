"""Hyper-parameter search with Ray Tune: on validation data only, each trial an ordinary fit in the store."""
