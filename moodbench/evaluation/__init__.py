"""Predictions of a saved artifact, and the speed and memory of it in fresh processes."""
