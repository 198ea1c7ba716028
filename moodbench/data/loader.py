"""Load datasets by name from any source: embedded, a file, Kaggle or the Hugging Face hub."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import DatasetEntry, HubSource, PreparationStep, Sampling
from moodbench.data.examples import (
    COLUMNS,
    SPLITS,
    Examples,
    Reading,
    content_key,
    draw_rows,
    example_ids,
    load_examples,
    subsample,
)
from moodbench.data.hub import HubData, HubSplit, commit_of, open_hub
from moodbench.data.labelling import BY_MAP, DROP, NO_LABEL, NO_TEXT, STARS, order_classes, shown
from moodbench.data.labels import classes_of
from moodbench.data.near_duplicates import Repeats, find_repeats, normalised
from moodbench.data.own import load_own
from moodbench.data.splits import Partition, as_given, by_content, check_sizes, limit_note
from moodbench.errors import DataError
from moodbench.paths import atomic_write, cache_folder, expanded
from moodbench.preparation import prepare_counted
from moodbench.spec import ResolvedDataset
from moodbench.spec.resolved import content_id

OFFICIAL_CODE_VERSION = 3
"""Increment when a code change may change the examples of a source; part of the cache key."""
IN_TEST = "also in a held-out split"
NOT_DRAWN = "not drawn"


def load_source(name: str, data: DatasetEntry | ResolvedDataset) -> Examples:
    """Return the examples of dataset `name`.

    Raises: DataError, PrerequisiteError or UnknownNameError.
    """
    if data.file is not None:
        return load_own(name, data.file)
    if data.hub is not None:
        return load_official(name, data.hub)
    assert data.embedded is not None
    return load_examples(name, data.embedded, data.labels, data.neutral_band or 0.0)


class Sources:
    """The datasets of one command, each loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Examples] = {}

    def load(self, name: str, data: DatasetEntry | ResolvedDataset) -> Examples:
        """Return the examples of dataset `name`; see `load_source`."""
        source = data.file or data.hub
        key = f"{name} {source.model_dump_json() if source else (data.embedded, data.labels, data.neutral_band)}"
        if key not in self._loaded:
            self._loaded[key] = load_source(name, data)
        return self._loaded[key]

    @property
    def loaded(self) -> list[Examples]:
        """The datasets that were loaded, in their order."""
        return list(self._loaded.values())


def pinned_source(entry: DatasetEntry, neutral_band: float) -> DatasetEntry:
    """Return `entry` pinned for all processes of a run: absolute path, commit of the repository, `neutral_band`.

    Raises: PrerequisiteError if the commit of the repository cannot be determined.
    """
    file, hub = entry.file, entry.hub
    if file is not None and file.kaggle is None:
        file = file.model_copy(update={"path": str(expanded(file.path).absolute())})
    if hub is not None:
        hub = hub.model_copy(update={"revision": commit_of(hub)})
    return entry.model_copy(update={"file": file, "hub": hub, "neutral_band": neutral_band})


def fetch_dataset(name: str, entry: DatasetEntry) -> str:
    """Download what a run on dataset `name` needs, and return one line that describes what is now on this machine.

    Raises: PrerequisiteError if it cannot be obtained; DataError if it does not match the entry.
    """
    examples = load_source(name, entry)
    counts = examples.frame["split"].value_counts()
    sizes = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS)
    reading = examples.reading
    where = f"{reading.file}, {reading.format}" if reading else "in the package"
    return f"dataset {name}: {where}; {sizes} texts"


def source_of(entry: DatasetEntry) -> str:
    """Return where the texts of `entry` come from: a repository id, a Kaggle dataset, a file, or `embedded`."""
    if entry.hub:
        return entry.hub.id
    if entry.file:
        return f"kaggle:{entry.file.kaggle}" if entry.file.kaggle else entry.file.path
    return "embedded"


class _Supported:
    """Descriptor that reads the catalogue on access, because importing a module must not read files."""

    def __get__(self, instance: object, owner: type) -> Mapping[str, str]:
        return {name: source_of(entry) for name, entry in load_catalogue().datasets.items()}


class SentimentDataLoader:
    """The datasets of a catalogue, loaded with fixed splits and seeded sub-samples."""

    SUPPORTED_DATASETS = _Supported()
    """Name -> source of every dataset in the packaged catalogue."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._given = catalogue
        self._sources = Sources()

    @cached_property
    def catalogue(self) -> Catalogue:
        """The given catalogue, or the packaged one."""
        return self._given or load_catalogue()

    def load(self, name: str) -> Examples:
        """Return all examples of dataset `name`.

        Raises: UnknownNameError, DataError or PrerequisiteError.
        """
        return self._sources.load(name, self.catalogue.dataset(name))

    def sample(self, name: str, split: str, size: int, *, seed: int = 0, by: Sampling = "stratified") -> pd.DataFrame:
        """Return at most `size` rows (example_id, text, label, ...) of one split.

        `by` is `stratified` (class shares of the split) or `balanced` (the same number of each class).
        """
        return subsample(self.load(name).split(split), size, seed, by)


def load_official(name: str, source: HubSource) -> Examples:
    """Return the examples of `source`, cached on disk so that workers and later runs do not need the hub.

    Raises: DataError or PrerequisiteError.
    """
    source = source.model_copy(update={"revision": commit_of(source)})
    value = {"name": name, "source": source.model_dump(mode="json"), "code_version": OFFICIAL_CODE_VERSION}
    path = cache_folder() / "examples" / f"{content_id('examples', value)}.parquet"
    if path.exists():
        return _read_cached(name, path)
    examples = _build_official(name, source)
    with suppress(OSError):  # The cache only saves time, so a failed write must not stop the run.
        _write_cached(examples, path)
    return examples


def _build_official(name: str, source: HubSource) -> Examples:
    assert source.revision is not None
    opened = open_hub(source, source.revision)
    where = f"dataset {name} ({source.id})"
    classes, warning = _hub_classes(opened, source, where)
    dropped: Counter[str] = Counter()
    prepared: Counter[PreparationStep] = Counter()
    parts = [
        _hub_rows(opened.splits[split], split, source, classes, dropped, prepared)
        for split in SPLITS
        if split in opened.splits
    ]
    frame = pd.concat(parts, ignore_index=True)
    partition = _hub_partition(frame, source, opened)
    frame = frame.assign(split=partition.names, group=[f"{c}" for c in partition.clusters])
    frame, repeats = _without_tested(frame, dropped)
    check_sizes(frame, classes, where, "choose other splits, or draw more rows")
    frame["example_id"] = example_ids(name, frame["text"].tolist())
    frame["mean_rating"], frame["rating_counts"], frame["segment"] = np.nan, None, None
    clusters = Counter(partition.clusters)
    reading = Reading(
        file=f"{source.id}{f' ({source.config})' if source.config else ''} at {source.revision[:12]}",
        format="Hugging Face hub",
        encoding=None,
        separator=None,
        num_rows=sum(len(split.codes) for split in opened.splits.values()),
        dropped=dict(dropped),
        num_kept_together=sum(count for count in clusters.values() if count > 1),
        num_groups=None,
        split_rule=partition.rule,
        num_near_duplicates=int(repeats.found.sum()),
        source_rows=opened.sizes,
        prepared=dict(prepared),
        warnings=tuple(w for w in (warning, partition.warning, limit_note(repeats.num_limited)) if w),
    )
    return Examples(name, classes, 0.0, frame[list(COLUMNS)].reset_index(drop=True), reading=reading)


def _hub_classes(opened: HubData, source: HubSource, where: str) -> tuple[tuple[str, ...], str | None]:
    """Return the class names in order, and a warning if the order was assumed.

    Raises: DataError for a split without labels, or a label that is neither in the label map nor in the labels.
    """
    column = f"{where}: label column {source.label_column!r}"
    found: set[str] = set()
    class_of = classes_of(source)
    for ours, split in opened.splits.items():
        used = [split.names[code] for code in np.unique(split.codes[split.codes >= 0])]
        if not used:
            raise DataError(
                f"{column}: the {ours} split has no labels (they are hidden, -1 or null); choose a split that has "
                f"them, such as `splits: {{{ours}: validation}}`"
            )
        for label in used:
            target = class_of(label)
            if target is None:
                known = source.label_map or source.labels
                raise DataError(
                    f"{column}: {shown(label)} ({ours}) is not in the label map or labels "
                    f"({', '.join(map(shown, known))}); "
                    f"add it, or leave such rows out with the label map VALUE={DROP}"
                )
            found.update(() if target == DROP and source.label_map else (target,))
    order = order_classes(found, source.labels, column)
    return order.names, order.warning


def _hub_rows(
    split: HubSplit,
    ours: str,
    source: HubSource,
    classes: tuple[str, ...],
    dropped: Counter[str],
    prepared: Counter[PreparationStep],
) -> pd.DataFrame:
    """Return the prepared rows of one split, sampled if `source` says so.

    Counts the rows that are left out in `dropped`, and in `prepared` the texts that each step changed.

    Columns: text, label, extra (the split), stars and key.
    """
    targets = list(map(classes_of(source), split.names))
    places = np.array([classes.index(t) if t in classes else -1 for t in targets] or [-1], dtype=np.int32)
    labels = np.where(split.codes < 0, -1, places[split.codes]).astype(np.int32)
    dropped[NO_LABEL] += int((split.codes < 0).sum())
    dropped[BY_MAP] += int(((labels < 0) & (split.codes >= 0)).sum())
    size = source.draw.get(ours)  # type: ignore[call-overload]
    if ours == "train" and size is not None and "validation" in source.draw and "validation" not in source.splits:
        size += source.draw["validation"]
    rows = draw_rows(labels, size, source.draw_seed, source.draw_by)
    dropped[NOT_DRAWN] += int((labels >= 0).sum()) - len(rows)
    texts = [prepare_counted(text, source.prepare, prepared) for text in split.texts(rows)]
    frame = pd.DataFrame({"text": texts, "label": labels[rows], "extra": ours})
    if set(split.names) == STARS:
        frame["stars"] = [int(split.names[code]) for code in split.codes[rows]]
    else:
        frame["stars"] = None
    empty = frame["text"] == ""
    dropped[NO_TEXT] += int(empty.sum())
    frame = frame[~empty].copy()
    frame["key"] = [content_key(text) for text in frame["text"]]
    return frame


def _hub_partition(frame: pd.DataFrame, source: HubSource, opened: HubData) -> Partition:
    """Return the official splits.

    A missing validation split is taken from train. A dataset with only a train split is split by content.
    """
    if "test" not in opened.splits and "validation" not in opened.splits:
        return by_content(frame)
    if "test" not in opened.splits:
        raise DataError(
            f"dataset {source.id}: has no test split; its splits are {', '.join(opened.sizes)}: say which one is "
            "tested on, such as `splits: {train: train, test: validation}`"
        )
    theirs = {ours: (source.splits or {}).get(ours, ours) for ours in opened.splits}  # type: ignore[call-overload]
    rule = "official: " + ", ".join(f"{ours} is {name!r}" for ours, name in theirs.items())
    return as_given(frame, rule, source.draw.get("validation"))


def _without_tested(frame: pd.DataFrame, dropped: Counter[str]) -> tuple[pd.DataFrame, Repeats]:
    """Return `frame` without leaked texts, and which test texts still have a near-duplicate in train.

    Drops training texts that also occur in validation or test, and validation texts that also occur in test. Texts are
    equal if they are equal after `normalised`.
    """
    norms = frame["text"].map(normalised)
    train, test = frame["split"] == "train", frame["split"] == "test"
    tested = set(norms[test])
    kept_from = set(norms[~train])
    out = (train & norms.isin(kept_from)) | ((frame["split"] == "validation") & norms.isin(tested))
    dropped[IN_TEST] = int(out.sum())
    return frame[~out].reset_index(drop=True), find_repeats(norms[train & ~out].tolist(), norms[test].tolist())


def _write_cached(examples: Examples, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert examples.reading is not None
    about = {"labels": examples.labels, "reading": asdict(examples.reading)}
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("example_id", "text")),
            ("label", pa.int32()),
            *((name, pa.string()) for name in ("split", "group", "segment")),
            ("stars", pa.int32()),
            ("mean_rating", pa.float64()),
            ("rating_counts", pa.list_(pa.int32())),
        ],
        metadata={"moodbench": json.dumps(about)},
    )
    table = pa.Table.from_pandas(examples.frame, schema=schema, preserve_index=False)
    with atomic_write(path) as file:
        pq.write_table(table, file)


def _read_cached(name: str, path: Path) -> Examples:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    about: dict[str, Any] = json.loads(table.schema.metadata[b"moodbench"])
    reading = Reading(**{**about["reading"], "warnings": tuple(about["reading"]["warnings"])})
    frame = table.to_pandas()[list(COLUMNS)]
    return Examples(name, tuple(about["labels"]), 0.0, frame, reading=reading)
