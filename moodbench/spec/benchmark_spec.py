"""The benchmark spec: what the user requests, before anything is resolved."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from moodbench.config.catalogue import Catalogue
from moodbench.config.schema import (
    Augmentation,
    DatasetEntry,
    FileSource,
    FineTuning,
    Head,
    HubSource,
    InferenceDtype,
    LoraDefaults,
    PreparationStep,
    Quantization,
    Sampling,
    TextDefaults,
    TrainDefaults,
)
from moodbench.config.schema.base import ChangesOf
from moodbench.config.yaml_files import load_yaml, read_yaml_text, validated, validation_message
from moodbench.errors import SpecError
from moodbench.paths import MAX_NAME_BYTES, checked_name

BASELINE_OF_SCORE = "tfidf-logreg"
"""The baseline that every run trains, because it defines the zero of the pinned score."""

MAX_SEEDS = 1000


class BenchmarkSpec(BaseModel):
    """A requested benchmark: models, datasets, seeds and settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(min_length=1)
    """Names of models in the catalogue, hub ids or local folders."""
    data: str | None = None
    """A dataset in addition to `datasets`: the user's own table, or `hub:OWNER/NAME[@REVISION]`.

    The table is a CSV, TSV, Excel, JSONL or Parquet file.
    """
    datasets: tuple[str, ...] = Field((), validate_default=True)
    """Names of datasets in the catalogue; may be empty if `data` is given."""
    text_column: str | None = None
    """Column of `data` with the texts; for a hub dataset, several comma-separated columns are joined."""
    label_column: str | None = None
    """Column of `data` with stars, numbers or words."""
    label_map: dict[Any, Any] = {}
    """Label of `data` -> class, or `drop` to leave the row out; empty uses the labels as classes."""
    labels: tuple[Any, ...] = ()
    """Class names of `data`, most negative first; empty orders them by number, known words or alphabetically."""
    split_column: str | None = None
    """Column of `data` that says train, validation or test; null to split by content."""
    group_column: str | None = None
    """Column of `data` with group ids; all rows of a group are in the same split."""
    data_name: str | None = None
    """Name of the dataset in `data`; null for the name of the file or repository."""
    data_config: str | None = None
    """Configuration (subset) of a hub dataset; null for its default."""
    splits: dict[str, str] = {}
    """MoodBench's split -> split of the hub dataset, such as test: validation; empty recognises the usual names."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field((0,), min_length=1)
    """Seeds; a number n means 0 to n - 1. A seed sets initialisation, data order and sub-sample of every model."""
    max_train_examples: Annotated[int, Field(ge=2)] | None = None
    """Maximum training examples; a larger training split is sub-sampled."""
    max_validation_examples: Annotated[int, Field(ge=2)] | None = None
    """Maximum validation examples; a larger validation split is sub-sampled."""
    sampling: Sampling = "stratified"
    """Class shares of those sub-samples: stratified (as in the dataset) or balanced."""
    neutral_band: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Overrides the neutral band of the datasets."""
    protocol: Annotated[str, Field(min_length=1)] | None = None
    """Measurement protocol; null for the catalogue's default."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device for training and measurements; auto prefers CUDA, then MPS, then the CPU."""
    quantization: Quantization | None = None
    """Storage of the frozen weights of fine-tuned models; null for the catalogue's setting."""
    inference_dtype: InferenceDtype = "auto"
    """Number format of evaluated and measured weights; auto for that in which they were trained, on the CPU float32."""
    method: FineTuning | None = None
    """Method of all fine-tuned models, lora or full; null for each model's own."""
    head: Head | None = None
    """Head of all fine-tuned models, classification or label-words; null for each model's own."""
    prompt: str | None = None
    """Template and label words: a prompt of the catalogue or a YAML file with one; null for each model's own."""
    recipe: str | None = None
    """Recipe of all fine-tuned models, a key of `recipes` in training.yaml; null for each model's own."""
    lora: Annotated[dict[str, Any], ChangesOf(LoraDefaults)] = {}
    """LoRA fields that override the catalogue."""
    train: Annotated[dict[str, Any], ChangesOf(TrainDefaults)] = {}
    """Training fields that override the catalogue."""
    text: Annotated[dict[str, Any], ChangesOf(TextDefaults)] = {}
    """Tokenisation fields (max_length, truncation_side) that override the catalogue."""
    prepare: tuple[PreparationStep, ...] = ()
    """Preprocessing steps of every text, in training and inference: those of `PreparationStep`."""
    augment: Annotated[dict[str, Any], ChangesOf(Augmentation)] = {}
    """Data augmentation of the training texts: word_dropout, word_swap, punctuation (shares of words), copies."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_of_seeds(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= MAX_SEEDS:
                raise ValueError(f"a number of seeds is 1 to {MAX_SEEDS}")
            return tuple(range(value))
        return value

    @field_validator("datasets")
    @classmethod
    def _some_data(cls, values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not values and not info.data.get("data"):
            raise ValueError("Field required, or `data` with a file of your own")
        return values

    @field_validator("models", "datasets", "seeds", "prepare")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        repeated = sorted({str(v) for v in values if values.count(v) > 1})
        if repeated:
            raise ValueError(f"given more than once: {', '.join(repeated)}")
        return values

    @cached_property
    def own(self) -> tuple[str, DatasetEntry] | None:
        """Name and catalogue entry of `data`, or None without it.

        Raises: ValidationError or SpecError if the fields do not form a valid entry.
        """
        given = {name: getattr(self, name) for name in _OF_DATA if getattr(self, name) not in (None, {}, ())}
        if self.data is None:
            if given:
                raise SpecError(f"{', '.join(given)} without data; add data, the file or hub dataset that has them")
            return None
        missing = [name for name in ("text_column", "label_column") if name not in given]
        if missing:
            raise SpecError(f"data {self.data!r} needs {' and '.join(missing)} as well")
        on_hub = self.data.startswith(HUB)
        idle = [name for name in (_OF_FILE if on_hub else _OF_HUB) if name in given]
        if idle:
            instead = (
                "files; use splits to name the splits of a hub dataset"
                if on_hub
                else f"hub datasets ({HUB}OWNER/NAME); use split_column for a file"
            )
            raise SpecError(f"data {self.data!r}: {', '.join(idle)}: only for {instead}")
        name = given.pop("data_name", None) or _name_of(self.data)
        try:
            checked_name(name)
        except ValueError as error:
            raise SpecError(f"data_name {name!r}: {error}") from error
        if not on_hub:
            return name, DatasetEntry(file=FileSource(path=self.data, **given))
        repository, _, revision = self.data.removeprefix(HUB).partition("@")
        columns = tuple(column.strip() for column in given.pop("text_column").split(",") if column.strip())
        named = {"id": repository, "revision": revision or None, "config": given.pop("data_config", None)}
        return name, DatasetEntry(hub=HubSource(text_columns=columns, **named, **given), description="a hub dataset")


HUB = "hub:"
"""Prefix of `data` for a hub dataset."""
_OF_FILE = ("split_column", "group_column")
_OF_HUB = ("data_config", "splits")
_OF_DATA = ("text_column", "label_column", "label_map", "labels", "data_name", *_OF_FILE, *_OF_HUB)


def _name_of(data: str) -> str:
    stem = data.partition("@")[0].rpartition("/")[2] if data.startswith(HUB) else Path(data).stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:MAX_NAME_BYTES].strip("-._") or "my-data"
    try:
        return checked_name(name)
    except ValueError:  # a name that Windows reserves
        return f"data-{name}"


RECIPE_PARTS = ("lora", "train", "text", "augment")
"""Fields of a spec that override defaults key by key."""


def spec_from_values(values: dict[str, Any], where: str, text: str | None = None) -> BenchmarkSpec:
    """Return the spec with these `values`; `text` is the YAML text of the file `where`.

    Raises: SpecError, which lists every problem with its location in `where`.
    """
    spec = validated(BenchmarkSpec, values, where, text)
    try:
        _ = spec.own  # computed now, so that errors in the user's own data are raised here
    except ValidationError as error:
        raise SpecError(validation_message(error, where, text, schema=BenchmarkSpec)) from error
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
    return spec


def overridden(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec, overridden by those `given` on the command line.

    A given `data` replaces the spec's datasets. RECIPE_PARTS are merged key by key: `--train epochs=3` keeps the rest
    of `train`.
    """
    base = {k: v for k, v in values.items() if k != "datasets"} if given.get("data") is not None else values
    parts = {part: {**base[part], **given[part]} for part in RECIPE_PARTS if base.get(part) and given.get(part)}
    return base | given | parts


def read_spec(path: Path) -> BenchmarkSpec:
    """Return the spec in the YAML file `path`; its keys are the fields of BenchmarkSpec.

    Raises: PrerequisiteError if the file cannot be read; SpecError if its contents are invalid.
    """
    text = read_yaml_text(path, "a benchmark spec")
    return spec_from_values(load_yaml(text, str(path)), str(path), text)


def spec_of_preset(name: str, catalogue: Catalogue, overrides: dict[str, Any]) -> BenchmarkSpec:
    """Return the spec of preset `name`, with the `overrides` given on the command line."""
    values = catalogue.preset(name).model_dump(exclude={"description"})
    return spec_from_values(overridden(values, overrides), f"preset {name}")
