"""Run one phase of a trial: fit, evaluate or measure."""
