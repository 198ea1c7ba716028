"""Searching hyper-parameters with Ray Tune: on validation only, every trial an ordinary fit of the store."""
