"""Copies of committed records in MLflow and TensorBoard; the store remains the source of truth."""
