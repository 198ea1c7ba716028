"""Evaluation of a saved artifact: predictions and scores, and speed and memory measured in fresh processes."""
