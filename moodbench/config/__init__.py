"""The catalogue of models, datasets, and training and measurement defaults, as YAML files with schemas."""

from moodbench.config.catalogue import Catalogue, load_catalogue
