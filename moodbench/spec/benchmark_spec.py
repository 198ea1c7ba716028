"""What a person asks for, before anything is looked up."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from moodbench.config.catalogue import Catalogue
from moodbench.config.changes import ChangesOf
from moodbench.config.explaining import explain
from moodbench.config.schema import (
    Augmentation,
    DatasetEntry,
    FileSource,
    FineTuning,
    Head,
    HubSource,
    LoraDefaults,
    PreparationStep,
    Quantization,
    Sampling,
    TextDefaults,
    TrainDefaults,
)
from moodbench.config.yaml_text import load_yaml
from moodbench.errors import PrerequisiteError, SpecError

BASELINE_OF_SCORE = "tfidf-logreg"
"""The contender that every run trains, because the pinned score's zero is defined by it."""

MAX_SEEDS = 1000


class BenchmarkSpec(BaseModel):
    """One request: these models on these data sets with these seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(min_length=1)
    """Names in the catalogue."""
    data: str | None = None
    """A data set beside `datasets`: a person's own table (CSV, TSV, JSONL, Parquet), or `hub:OWNER/NAME[@REVISION]`."""
    datasets: tuple[str, ...] = Field((), validate_default=True)
    """Names in the catalogue; may be empty where there is `data`."""
    text_column: str | None = None
    """Column of `data` with the texts; of a hub data set also several, with commas between, which are joined."""
    label_column: str | None = None
    """Column of `data` with stars, numbers or words."""
    label_map: dict[Any, Any] = {}
    """Label of `data` -> class, or `drop` to leave the row out; empty keeps the labels as classes."""
    labels: tuple[Any, ...] = ()
    """Class names of `data`, most negative first; empty for the order of numbers, known words or the alphabet."""
    split_column: str | None = None
    """Column of `data` that says train, validation or test; null for splits made by content."""
    group_column: str | None = None
    """Rows of `data` of one group stay on one side."""
    data_name: str | None = None
    """What the data set is called; the name of the file or repository when null."""
    data_config: str | None = None
    """Configuration (subset) of a hub data set; its default when null."""
    splits: dict[str, str] = {}
    """Our split -> the hub data set's, such as test: validation; empty takes those of the usual names."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field((0,), min_length=1)
    """Each seed sets initialisation, data order and sub-sample, the same for every model. A number n means 0 to n - 1."""
    max_train_examples: Annotated[int, Field(ge=2)] | None = None
    """Train on a stratified sub-sample of so many examples."""
    max_validation_examples: Annotated[int, Field(ge=2)] | None = None
    """Validate on a stratified sub-sample of so many examples."""
    sampling: Sampling = "stratified"
    """Class shares of those sub-samples: as in the data set, or balanced."""
    neutral_band: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Overrides the data sets' neutral band."""
    protocol: str | None = None
    """Measuring protocol; the catalogue's default when null."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train and measure; auto takes CUDA, then MPS, then the CPU."""
    quantization: Quantization | None = None
    """How the frozen weights of fine-tuned models are stored; the catalogue's when null."""
    method: FineTuning | None = None
    """How models that are fine-tuned are: lora or full; as their entries say when null."""
    head: Head | None = None
    """Where class scores of fine-tuned models come from: classification or label-words; each model's own when null."""
    prompt: str | None = None
    """Template and label words: a prompt of the catalogue or a YAML file with one; each model's own when null."""
    recipe: str | None = None
    """Recipe of all fine-tuned models, a key of `recipes` in training.yaml; each model's own when null."""
    lora: Annotated[dict[str, Any], ChangesOf(LoraDefaults)] = {}
    """LoRA fields that override the catalogue."""
    train: Annotated[dict[str, Any], ChangesOf(TrainDefaults)] = {}
    """Training fields that override the catalogue."""
    text: Annotated[dict[str, Any], ChangesOf(TextDefaults)] = {}
    """Fields of how a text becomes tokens (max_length, truncation_side) that override the catalogue."""
    prepare: tuple[PreparationStep, ...] = ()
    """What is done to every text first, in training and in use: entities, links, mentions, lowercase."""
    augment: Annotated[dict[str, Any], ChangesOf(Augmentation)] = {}
    """Changed copies of training texts: word_dropout, word_swap, punctuation (shares of words), copies."""

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
        """The name and catalogue entry of `data`, None without it; ValidationError or SpecError for what makes none."""
        given = {name: getattr(self, name) for name in _OF_DATA if getattr(self, name) not in (None, {}, ())}
        if self.data is None:
            if given:
                raise SpecError(f"{', '.join(given)} without data; add data, the file or hub data set that has them")
            return None
        missing = [name for name in ("text_column", "label_column") if name not in given]
        if missing:
            raise SpecError(f"data {self.data!r} needs {' and '.join(missing)} as well")
        on_hub = self.data.startswith(HUB)
        idle = [name for name in (_OF_FILE if on_hub else _OF_HUB) if name in given]
        if idle:
            instead = (
                "files only; say with splits which split is which"
                if on_hub
                else f"hub data sets only ({HUB}OWNER/NAME); a file says it with split_column"
            )
            raise SpecError(f"data {self.data!r}: {', '.join(idle)}: read for {instead}")
        name = given.pop("data_name", None) or _name_of(self.data)
        if not re.fullmatch(_NAME, name):
            raise SpecError(
                f"data_name {name!r}: allowed are letters, digits, '.', '_' and '-', beginning with one of the first two"
            )
        if not on_hub:
            return name, DatasetEntry(file=FileSource(path=self.data, **given))
        repository, _, revision = self.data.removeprefix(HUB).partition("@")
        columns = tuple(column.strip() for column in given.pop("text_column").split(",") if column.strip())
        named = {"id": repository, "revision": revision or None, "config": given.pop("data_config", None)}
        return name, DatasetEntry(hub=HubSource(text_columns=columns, **named, **given), description="a hub data set")


HUB = "hub:"
"""What `data` begins with for a data set of the hub."""
_OF_FILE = ("split_column", "group_column")
_OF_HUB = ("data_config", "splits")
_OF_DATA = ("text_column", "label_column", "label_map", "labels", "data_name", *_OF_FILE, *_OF_HUB)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def _name_of(data: str) -> str:
    stem = data.partition("@")[0].rpartition("/")[2] if data.startswith(HUB) else Path(data).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "my-data"


RECIPE_PARTS = ("lora", "train", "text", "augment")
"""The fields of a spec that hold changes, key by key."""


def spec_from_values(values: dict[str, Any], where: str, text: str | None = None) -> BenchmarkSpec:
    """The spec that `values` describe; SpecError lists every problem with its place in `where`."""
    try:
        spec = BenchmarkSpec.model_validate(values)
        _ = spec.own  # what is wrong with a person's own data is told now
    except ValidationError as error:
        raise SpecError(explain(error, where, text, schema=BenchmarkSpec)) from error
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
    return spec


def overridden(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a spec with those `given` on the command line; own data take the place of its data sets.

    Of a recipe's parts only the keys that are given change: `--train epochs=3` leaves the rest of `train` as it is.
    """
    kept = {k: v for k, v in values.items() if k != "datasets"} if given.get("data") is not None else values
    parts = {part: {**kept[part], **given[part]} for part in RECIPE_PARTS if kept.get(part) and given.get(part)}
    return kept | given | parts


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
        "models": preset.models,
        "datasets": preset.datasets,
        "seeds": tuple(range(preset.seeds)),
        "max_train_examples": preset.max_train_examples,
        "max_validation_examples": preset.max_validation_examples,
        "protocol": preset.protocol,
        "lora": preset.lora,
        "train": preset.train,
    }
    return spec_from_values(overridden(values, overrides), f"preset {name}")
