"""MLflow and TensorBoard: committed records replayed for those who look at their experiments there; a copy, never the truth."""
