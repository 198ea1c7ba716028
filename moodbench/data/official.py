"""A hub dataset as examples with its official splits; texts of the test split are removed from training."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moodbench.cache import atomic_write, cache_folder
from moodbench.config.schema import HubSource
from moodbench.data.examples import COLUMNS, SPLITS, Examples, Reading, content_key, draw_rows, example_ids
from moodbench.data.hub import HubData, HubSplit, commit_of, open_hub
from moodbench.data.labelling import BY_MAP, DROP, NO_LABEL, NO_TEXT, STARS, order_classes, shown, target_of
from moodbench.data.splits import (
    Partition,
    as_given,
    by_content,
    check_sizes,
    near_duplicate_pairs,
    normalised,
)
from moodbench.errors import DataError
from moodbench.spec.canonical import content_id

OFFICIAL_CODE_VERSION = 2
"""Increment when a code change may change the examples of a source; part of the cache key."""
IN_TEST = "also in a held-out split"
NOT_DRAWN = "not drawn"


def load_official(name: str, source: HubSource) -> Examples:
    """Return the examples of `source`, cached on disk so that workers and later runs do not need the hub.

    Raises: DataError or PrerequisiteError.
    """
    source = source.model_copy(update={"revision": commit_of(source)})
    value = {"name": name, "source": source.model_dump(mode="json"), "code_version": OFFICIAL_CODE_VERSION}
    path = cache_folder() / "examples" / f"{content_id('examples', value)}.parquet"
    if path.exists():
        return _read(name, path)
    examples = _build(name, source)
    with suppress(OSError):  # The cache only saves time, so a failed write must not stop the run.
        _write(examples, path)
    return examples


def _build(name: str, source: HubSource) -> Examples:
    assert source.revision is not None
    opened = open_hub(source, source.revision)
    where = f"dataset {name} ({source.id})"
    classes, warning = _classes(opened, source, where)
    dropped: Counter[str] = Counter()
    parts = [_rows(split, opened.splits[split], source, classes, dropped) for split in SPLITS if split in opened.splits]
    frame = pd.concat(parts, ignore_index=True)
    partition = _partition(frame, source, opened)
    frame = frame.assign(split=partition.names, group=[f"{c}" for c in partition.clusters])
    frame, num_near = _without_tested(frame, dropped)
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
        num_near_duplicates=num_near,
        source_rows=opened.sizes,
        warnings=tuple(w for w in (warning, partition.warning) if w),
    )
    return Examples(name, classes, 0.0, frame[list(COLUMNS)].reset_index(drop=True), reading=reading)


def _classes(opened: HubData, source: HubSource, where: str) -> tuple[tuple[str, ...], str | None]:
    """Return the class names in order, and a warning if the order was assumed.

    Raises: DataError for a split without labels, or a label that is neither in the label map nor in the labels.
    """
    column = f"{where}: label column {source.label_column!r}"
    found: set[str] = set()
    for ours, split in opened.splits.items():
        used = [split.names[code] for code in np.unique(split.codes[split.codes >= 0])]
        if not used:
            raise DataError(
                f"{column}: the {ours} split has no labels (they are hidden, -1 or null); choose a split that has "
                f"them, such as `splits: {{{ours}: validation}}`"
            )
        for label in used:
            target = target_of(label, source.label_map, source.labels)
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


def _rows(
    ours: str, split: HubSplit, source: HubSource, classes: tuple[str, ...], dropped: Counter[str]
) -> pd.DataFrame:
    """Return the rows of one split, sampled if `source` says so; counts the others in `dropped`.

    Columns: text, label, extra (the split), stars and key.
    """
    targets = [target_of(label, source.label_map, source.labels) for label in split.names]
    places = np.array([classes.index(t) if t in classes else -1 for t in targets] or [-1], dtype=np.int32)
    labels = np.where(split.codes < 0, -1, places[split.codes]).astype(np.int32)
    dropped[NO_LABEL] += int((split.codes < 0).sum())
    dropped[BY_MAP] += int(((labels < 0) & (split.codes >= 0)).sum())
    size = source.draw.get(ours)  # type: ignore[call-overload]
    if ours == "train" and size is not None and "validation" in source.draw and "validation" not in source.splits:
        size += source.draw["validation"]
    rows = draw_rows(labels, size, source.draw_seed, source.draw_by)
    dropped[NOT_DRAWN] += int((labels >= 0).sum()) - len(rows)
    texts = split.texts(rows)
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


def _partition(frame: pd.DataFrame, source: HubSource, opened: HubData) -> Partition:
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


def _without_tested(frame: pd.DataFrame, dropped: Counter[str]) -> tuple[pd.DataFrame, int]:
    """Return `frame` without leaked texts, and the number of test texts that still have a near-duplicate in train.

    Drops training texts that also occur in validation or test, and validation texts that also occur in test. Texts are
    equal if they are equal after `normalised`.
    """
    norms = frame["text"].map(normalised)
    train, test = frame["split"] == "train", frame["split"] == "test"
    tested = set(norms[test])
    kept_from = set(norms[~train])
    out = (train & norms.isin(kept_from)) | ((frame["split"] == "validation") & norms.isin(tested))
    dropped[IN_TEST] = int(out.sum())
    pairs = near_duplicate_pairs(norms[train & ~out].tolist(), norms[test].tolist())
    return frame[~out].reset_index(drop=True), len(set(pairs[:, 1].tolist()))


def _write(examples: Examples, path: Path) -> None:
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


def _read(name: str, path: Path) -> Examples:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    about: dict[str, Any] = json.loads(table.schema.metadata[b"moodbench"])
    reading = Reading(**{**about["reading"], "warnings": tuple(about["reading"]["warnings"])})
    frame = table.to_pandas()[list(COLUMNS)]
    return Examples(name, tuple(about["labels"]), 0.0, frame, reading=reading)
