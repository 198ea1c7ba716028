"""published.yaml: results of fine-tuned models that others published, to compare a recipe with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moodbench.config.schema.base import Entry

Words = Annotated[str, Field(min_length=1)]


class PublishedResult(Entry):
    """The accuracy of one fine-tuned model on one data set, with its source."""

    dataset: Words
    """Name of the data set in the catalogue."""
    split: Words
    """What was scored, as the source calls it: dev, test, GLUE test, test[:1000]."""
    accuracy: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)]
    """In percent, as published; a share is refused."""
    method: Words
    """How the model was trained, such as full fine-tuning."""
    source: Words
    """Paper with its arXiv id and table, or the README of a project."""


class PublishedFile(Entry):
    """published.yaml."""

    published: dict[str, tuple[PublishedResult, ...]]
    """Model name -> its results."""
