"""Tokenizers, base models, LoRA adapters and classical baselines behind one predictor interface."""
