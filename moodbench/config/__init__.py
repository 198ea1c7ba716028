"""The catalogue of models, datasets, and training and measurement defaults, as YAML files with schemas."""

from moodbench.config.catalogue import Catalogue, load_catalogue

__all__ = ["Catalogue", "load_catalogue"]
