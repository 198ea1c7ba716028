"""datasets.yaml: labelled texts and their sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from moodbench.config.schema.base import Count, Entry, HubId, HubRevision, Name, NonNegative, Positive, Sampling, Split
from moodbench.config.schema.training import PreparationStep


class Labelling(Entry):
    """Mapping from the labels of a table to classes."""

    label_map: dict[str, str] = {}
    """Label -> class, or `drop` to leave the row out; empty uses the labels as classes."""
    labels: tuple[str, ...] = ()
    """Class names, most negative first; empty orders them by number, by known sentiment words, or alphabetically."""

    @field_validator("label_map", mode="before")
    @classmethod
    def _words_in_map(cls, value: object) -> object:
        return {_word(k): _word(v) for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return [_word(v) for v in value] if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _classes_possible(self) -> Labelling:
        if self.labels and (len(set(self.labels)) != len(self.labels) or len(self.labels) not in (2, 3, 5)):
            raise ValueError(f"labels: 2, 3 or 5 different ones are possible, given {list(self.labels)}")
        classes = dict.fromkeys(v for v in self.label_map.values() if v != "drop")
        if self.label_map and len(classes) not in (2, 3, 5):
            raise ValueError(f"label_map: makes {len(classes)} classes ({', '.join(classes)}); possible are 2, 3 or 5")
        if self.label_map and self.labels and set(classes) != set(self.labels):
            raise ValueError(
                f"labels {list(self.labels)} and the classes of label_map {list(classes)} must be the same"
            )
        return self


class FileSource(Labelling):
    """A table of texts and labels in CSV, TSV, Excel, JSONL or Parquet: the user's file, or one of a Kaggle dataset."""

    path: str = Field(min_length=1)
    """Path of the file, relative to the working directory or to the root of the Kaggle dataset."""
    kaggle: Annotated[HubId, Field(pattern="/")] | None = None
    """Kaggle dataset (owner/name) that contains the file; null for the user's own file."""
    version: Count | None = None
    """Version of the Kaggle dataset; null for the newest."""
    text_column: str
    """Column with the texts."""
    label_column: str
    """Column with stars, numbers or words."""
    split_column: str | None = None
    """Column that says train, validation or test; null to split by content."""
    group_column: str | None = None
    """Column of group ids; all rows of a group are in the same split."""
    id_column: str | None = None
    """Column of unique ids; of several rows with the same id, one is kept."""
    segment_column: str | None = None
    """Column with a segment of the source, such as a shop's branch, stored with each text."""
    prepare: tuple[PreparationStep, ...] = ()
    """Steps that clean the texts as they are read, such as `breaks` for a source with <br />."""

    @model_validator(mode="after")
    def _makes_sense(self) -> FileSource:
        if self.version is not None and self.kaggle is None:
            raise ValueError("version is the version of a Kaggle dataset; give `kaggle` as well")
        if self.kaggle is not None and (Path(self.path).is_absolute() or ".." in Path(self.path).parts):
            raise ValueError(f"path {self.path!r} is not inside the Kaggle dataset; give a path relative to its root")
        if self.split_column is not None and self.group_column is not None:
            raise ValueError("split_column and group_column cannot be combined: given splits are used unchanged")
        given = (self.text_column, self.label_column, self.split_column, self.group_column, self.id_column)
        columns = [c for c in (*given, self.segment_column) if c is not None]
        repeated = sorted({c for c in columns if columns.count(c) > 1})
        if repeated:
            raise ValueError(f"column {', '.join(map(repr, repeated))} is given two roles; each needs its own")
        return self


class HubSource(Labelling):
    """A dataset of the Hugging Face hub, or of any server that implements its API (HF_ENDPOINT)."""

    id: HubId
    """Repository id."""
    config: str | None = None
    """Configuration (subset) of the repository; null for its default."""
    revision: HubRevision | None = None
    """Commit, branch or tag; null for the newest commit, which the run then records."""
    splits: dict[Split, str] = {}
    """MoodBench's split -> the repository's split; empty recognises the usual names.

    A missing validation split is taken from train. A repository with only a train split is split by content.
    """
    text_columns: tuple[str, ...] = Field(min_length=1)
    """Columns that make up the text, joined by newlines."""
    label_column: str
    """Column with the label: a class name, number or word."""
    draw: dict[Split, Count] = {}
    """MoodBench's split -> number of rows to sample; splits that are not named are used in full."""
    draw_by: Sampling = "stratified"
    """Class shares of the sample: those of the source, or equal shares."""
    draw_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the sample."""
    prepare: tuple[PreparationStep, ...] = ()
    """Steps that clean the texts as they are read, such as `breaks` for a source with <br />."""

    @model_validator(mode="after")
    def _has_splits(self) -> HubSource:
        if self.splits and "train" not in self.splits:
            raise ValueError(f"splits: train is needed, given {', '.join(self.splits)}")
        return self


def _word(value: object) -> object:
    """Return a YAML number or boolean as text, like a label read from a file: 4 and 4.0 give "4"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) else value


class DatasetEntry(Entry):
    """One labelled dataset from exactly one source: embedded, a file, or a hub repository."""

    embedded: str | None = None
    """Name of the embedded dataset."""
    file: FileSource | None = None
    """A file on this machine or at Kaggle."""
    hub: HubSource | None = None
    """A repository of the Hugging Face hub."""
    labels: tuple[str, ...] = ()
    """Class names of an embedded dataset in the order of the class ids, most negative first."""
    neutral_band: NonNegative | None = None
    """Absolute mean rating below which an item of an embedded dataset is neutral."""
    num_source_rows: dict[str, Count] = {}
    """Split of the source -> published number of rows; the data report warns if the source differs."""
    mean_words: Positive | None = None
    """Approximate mean words per text, for estimates made before the texts are downloaded."""
    licence: str = "not stated"
    terms: str | None = None
    """Terms of use beyond the name of the licence."""
    citation: str | None = None
    description: str = "your own data"
    """One-line description for listings."""

    @model_validator(mode="after")
    def _complete(self) -> DatasetEntry:
        sources = ("embedded", "file", "hub")
        given = [key for key in sources if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(sources)}; given: {', '.join(given) or 'none'}")
        if self.embedded is None:
            idle = [key for key in ("labels", "neutral_band") if getattr(self, key) not in (None, ())]
            if idle:
                raise ValueError(f"{', '.join(idle)}: only for embedded datasets; set it under `{given[0]}`")
            return self
        if len(self.labels) not in (2, 3):
            raise ValueError(f"labels: 2 (neutral items are left out) or 3 are possible, given {list(self.labels)}")
        missing = {"neutral_band", "licence", "citation", "description"} - self.model_fields_set
        if missing:
            raise ValueError(f"an embedded text needs {', '.join(sorted(missing))}")
        return self

    @property
    def expected_rows(self) -> dict[Split, int] | None:
        """Expected texts per split after sampling and splitting, from the published sizes; None if unknown."""
        if self.file is not None and "all" in self.num_source_rows:
            rows = self.num_source_rows["all"]
            return {"train": round(0.7 * rows), "validation": round(0.1 * rows), "test": round(0.2 * rows)}
        if self.hub is None:
            return None
        theirs = self.hub.splits or {"train": "train", "validation": "validation", "test": "test"}
        rows_of: dict[Split, int] = {
            ours: self.num_source_rows[name] for ours, name in theirs.items() if name in self.num_source_rows
        }
        if not {"train", "test"} <= set(rows_of):
            return None
        draw, train = self.hub.draw, rows_of["train"]
        drawn: dict[Split, int] = {ours: min(rows, draw.get(ours, rows)) for ours, rows in rows_of.items()}
        if "validation" not in drawn:
            pool = train if "train" not in draw else min(train, draw["train"] + draw.get("validation", 0))
            carved = min(pool // 8, draw.get("validation", pool))
            drawn |= {"train": pool - carved, "validation": carved}
        return drawn

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, most negative first; empty if the entry does not list them."""
        return self.labels or (self.file.labels if self.file else self.hub.labels if self.hub else ())


class DatasetsFile(Entry):
    """Schema of datasets.yaml."""

    datasets: dict[Name, DatasetEntry]
