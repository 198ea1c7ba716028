"""What can be run: the catalogue of models, data sets, training and measuring defaults, as YAML with schemas."""

from moodbench.config.catalogue import Catalogue, load_catalogue

__all__ = ["Catalogue", "load_catalogue"]
