"""presets.yaml: named benchmark runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moodbench.config.changes import ChangesOf
from moodbench.config.schema.base import Count, Entry
from moodbench.config.schema.training import LoraDefaults, TrainDefaults


class Preset(Entry):
    """A named benchmark run that is started by its name alone."""

    description: str
    models: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = Field(min_length=1)
    seeds: Count = 1
    """Number of seeds; the seeds are 0 to seeds - 1."""
    max_train_examples: Count | None = None
    max_validation_examples: Count | None = None
    protocol: str | None = None
    lora: Annotated[dict[str, object], ChangesOf(LoraDefaults)] = {}
    train: Annotated[dict[str, object], ChangesOf(TrainDefaults)] = {}


class PresetsFile(Entry):
    """Schema of presets.yaml."""

    presets: dict[str, Preset]
