"""Intervals, paired differences, rank intervals, equivalence and composite score, computed from arrays and frames."""
