"""Fitting of models on the training split, with model selection on the validation split."""
