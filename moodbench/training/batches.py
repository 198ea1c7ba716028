"""Tokenised texts, from Arrow files in a cache that processes share, and the batches that are made of them.

Two ways limit padding: random batches are computed in parts by length, or batches have texts of similar length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from moodbench.models.tokenizer import Encoded
from moodbench.paths import atomic_write
from moodbench.spec.resolved import content_id

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

MAX_PARTS = 4
"""Parts of a batch.

Ratio of padded to real tokens of random batches of 32 reviews or tweets of the catalogue: 1.9 to 2.8 whole, 1.4 to 1.8
in two parts, 1.2 to 1.4 in four.
"""
MIN_TOKENS_PER_PART = 256
"""Padded tokens below which a part is not worth its own passes on a CPU."""
POOL_BATCHES = 16
"""Batches per sorted pool.

Ratio of padded to real tokens on the reviews and tweets of the catalogue in batches of 32: 1.26 with 4 batches per
pool, 1.14 with 8, 1.08 with 16, 1.03 with 50, and 1.9 in random order.
"""


def tokenised(
    rows: pd.DataFrame, encode: Callable[[Sequence[str]], Encoded], encoder_key: str, folder: Path
) -> Dataset:
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


def _write(rows: pd.DataFrame, encoded: Encoded, path: Path) -> None:
    table = pa.table(
        {
            "input_ids": pa.array(encoded.inputs, type=pa.list_(pa.int32())),
            "length": pa.array(encoded.num_tokens, type=pa.int32()),
            "truncated": pa.array(encoded.truncated, type=pa.bool_()),
            "labels": pa.array(rows["label"].tolist(), type=pa.int64()),
            "example_id": pa.array(rows["example_id"].tolist(), type=pa.string()),
        }
    )
    with atomic_write(path) as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)


class LengthBuckets:
    """Sampler of batches of similar length in random order; each epoch is a permutation of all texts.

    The permutation depends only on the seed and the number of the epoch, so that a resumed fit needs no random state.
    transformers' own sampler keeps the batches of a pool sorted by length, so that the last steps of each pool get only
    short texts.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = np.asarray(lengths), batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._epoch])
        return iter(bucketed(self._lengths, self._batch_size, rng).tolist())


def bucketed(lengths: npt.NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return a permutation of the indices of `lengths` in which each batch has texts of similar length.

    Pools of POOL_BATCHES batches are drawn at random and sorted by length, with ties in random order, and all batches
    are then shuffled. An incomplete batch comes last and is drawn at random, whatever the lengths.
    """
    order = rng.permutation(len(lengths))
    num_whole = len(order) - len(order) % batch_size
    pools = np.split(order[:num_whole], range(POOL_BATCHES * batch_size, num_whole, POOL_BATCHES * batch_size))
    by_length = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    batches = rng.permutation(np.concatenate(by_length).reshape(-1, batch_size))
    return np.concatenate([batches.ravel(), order[num_whole:]])


def parts_by_length(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Return a padded batch as up to MAX_PARTS parts of similar length, each without columns that are padding alone.

    `attention_mask` is `(batch, tokens)`, and padding may be on either side. The sum over parts of the mean loss times
    the share of the texts is the mean loss of the batch, so that the gradient is the same, with less computation.
    """
    mask = batch["attention_mask"]
    num_parts = min(MAX_PARTS, len(mask), mask.numel() // MIN_TOKENS_PER_PART)
    if num_parts < 2:
        return [batch]
    parts = []
    for rows in mask.sum(dim=1).argsort(stable=True).tensor_split(num_parts):
        used = mask[rows].any(dim=0)
        parts.append({k: v[rows][:, used] if v.shape == mask.shape else v[rows] for k, v in batch.items()})
    return parts


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Return the indices of `lengths` from the longest text to the shortest, which needs the least padding."""
    order: list[int] = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    return order
