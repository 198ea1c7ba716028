"""What a person asks for, before anything is looked up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from moodbench.config.catalogue import Catalogue, explain
from moodbench.config.yaml_text import load_yaml
from moodbench.errors import PrerequisiteError, SpecError

BASELINE_OF_SCORE = "tfidf-logreg"
"""The contender that every run trains, because the pinned score's zero is defined by it."""


class BenchmarkSpec(BaseModel):
    """One request: these models on these data sets with these seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "run"
    """What the run is called in its events."""
    models: tuple[str, ...] = Field(min_length=1)
    """Names in the catalogue."""
    datasets: tuple[str, ...] = Field(min_length=1)
    """Names in the catalogue."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field((0,), min_length=1)
    """Each seed sets initialisation, data order and sub-sample, the same for every model."""
    max_train_examples: Annotated[int, Field(ge=2)] | None = None
    """Train on a stratified sub-sample of so many examples."""
    max_validation_examples: Annotated[int, Field(ge=2)] | None = None
    """Validate on a stratified sub-sample of so many examples."""
    neutral_band: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Overrides the data sets' neutral band."""
    protocol: str | None = None
    """Measuring protocol; the catalogue's default when null."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train and measure; auto takes CUDA, then MPS, then the CPU."""
    lora: dict[str, Any] = {}
    """LoRA fields that override the catalogue."""
    train: dict[str, Any] = {}
    """Training fields that override the catalogue."""

    @field_validator("models", "datasets", "seeds")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        repeated = sorted({str(v) for v in values if values.count(v) > 1})
        if repeated:
            raise ValueError(f"given more than once: {', '.join(repeated)}")
        return values


def spec_from_values(values: dict[str, Any], where: str, text: str | None = None) -> BenchmarkSpec:
    """The spec that `values` describe; SpecError lists every problem with its place in `where`."""
    try:
        return BenchmarkSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(explain(error, where, text)) from error


def read_spec(path: Path) -> BenchmarkSpec:
    """The spec in the YAML file `path`; its fields are those of BenchmarkSpec."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise PrerequisiteError(f"{path}: {error.strerror}; expected a YAML file with a benchmark spec") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text (byte {error.start}); expected YAML") from error
    return spec_from_values(load_yaml(text, str(path)), str(path), text)


def spec_of_preset(name: str, catalogue: Catalogue, overrides: dict[str, Any]) -> BenchmarkSpec:
    """The spec of preset `name`, with the `overrides` given on the command line."""
    preset = catalogue.preset(name)
    values: dict[str, Any] = {
        "name": name,
        "models": preset.models,
        "datasets": preset.datasets,
        "seeds": tuple(range(preset.seeds)),
        "max_train_examples": preset.max_train_examples,
        "max_validation_examples": preset.max_validation_examples,
        "protocol": preset.protocol,
        "lora": preset.lora,
        "train": preset.train,
    }
    return spec_from_values(values | overrides, f"preset {name}")
