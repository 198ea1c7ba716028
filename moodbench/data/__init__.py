"""Datasets: examples with fixed splits from several sources."""
