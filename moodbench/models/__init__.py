"""Tokenizer, base model, LoRA and the classical baselines, each behind one predictor."""
