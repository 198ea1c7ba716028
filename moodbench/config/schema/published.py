"""published.yaml: published results of fine-tuned models, as a reference for recipes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moodbench.config.schema.base import Entry

Words = Annotated[str, Field(min_length=1)]


class PublishedResult(Entry):
    """Published accuracy of one fine-tuned model on one dataset, with its source."""

    dataset: Words
    """Name of the dataset in the catalogue."""
    split: Words
    """Evaluated split, as the source calls it: dev, test, GLUE test, test[:1000]."""
    accuracy: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)]
    """Accuracy in percent, as published; a share (up to 1) is refused."""
    method: Words
    """Training method, such as full fine-tuning."""
    source: Words
    """Paper with its arXiv id and table, or the README of a project."""


class PublishedFile(Entry):
    """Schema of published.yaml."""

    published: dict[str, tuple[PublishedResult, ...]]
    """Model name -> its results."""
