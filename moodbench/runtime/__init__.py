"""Executors that run workers (inline, Ray): commands in, neutral outcomes out, without knowledge of models."""
