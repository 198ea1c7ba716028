"""Datasets: examples with fixed splits from several sources, and tokenised Arrow files in a content-addressed cache."""
