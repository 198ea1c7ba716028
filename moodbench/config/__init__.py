"""What can be run: the catalogue of models, data sets, training and measuring defaults, as YAML with schemas."""
