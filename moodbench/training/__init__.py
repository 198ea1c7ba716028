"""Fitting a contender on the training split, choosing on the validation split."""
