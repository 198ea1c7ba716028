"""Tokenised splits as Arrow files in a cache shared by processes: content-addressed and written atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from moodbench.cache import atomic_write
from moodbench.spec.resolved import content_id

if TYPE_CHECKING:
    from datasets import Dataset


Encode = Callable[[Sequence[str]], Sequence[tuple[list[int], bool]]]
"""Maps texts to a pair for each text: its token ids, and whether it was truncated."""


def tokenised(rows: pd.DataFrame, encode: Encode, encoder_key: str, folder: Path) -> Dataset:
    """Return a memory-mapped dataset of the tokenised `rows`, in their order.

    Its columns are input_ids, length, truncated, labels and example_id. `encoder_key` must determine the output of
    `encode` (tokenizer digest, maximum length, truncation side). The file is named by a digest of that key and the
    rows. Concurrent writers produce the same bytes and rename them into place, so a reader never sees a partial file.
    """
    from datasets import Dataset

    content = {
        "encoder": encoder_key,
        "ids": rows["example_id"].tolist(),
        "labels": rows["label"].tolist(),
        "texts": hashlib.sha256("\0".join(rows["text"]).encode()).hexdigest(),
    }
    path = folder / "tokenised" / f"{content_id('tokenised', content)}.arrow"
    if not path.exists():
        _write(rows, encode(rows["text"].tolist()), path)
    return Dataset.from_file(str(path))


def _write(rows: pd.DataFrame, encodings: Sequence[tuple[list[int], bool]], path: Path) -> None:
    table = pa.table(
        {
            "input_ids": pa.array([ids for ids, _ in encodings], type=pa.list_(pa.int32())),
            "length": pa.array([len(ids) for ids, _ in encodings], type=pa.int32()),
            "truncated": pa.array([cut for _, cut in encodings], type=pa.bool_()),
            "labels": pa.array(rows["label"].tolist(), type=pa.int64()),
            "example_id": pa.array(rows["example_id"].tolist(), type=pa.string()),
        }
    )
    with atomic_write(path) as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
