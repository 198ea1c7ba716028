"""Where workers run (inline, Ray): commands in, neutral outcomes out; knows nothing of models."""
