"""The order of texts in batches of similar length, so that little is padded, drawn anew for each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

POOL_BATCHES = 16
"""Batches that are cut out of one sorted pool. Padded to real tokens on the reviews and tweets of the catalogue in batches
of 32: 1.26 with 4, 1.14 with 8, 1.08 with 16, 1.03 with 50, 1.9 in random order."""


class LengthBuckets:
    """Sampler of batches of similar length in random order: each epoch a permutation of all texts.

    The permutation of an epoch follows from the seed and its number alone, so a fit that resumes needs no random state, and
    fits that train together meet before the same batches. transformers' sampler keeps the batches of a pool in order of
    length, by which the last steps of each pool see short texts only.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = np.asarray(lengths), batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch that is drawn next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._epoch])
        return iter(bucketed(self._lengths, self._batch_size, rng).tolist())


def bucketed(lengths: npt.NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return all indices of `lengths` so that each `batch_size` of them in turn are of similar length.

    Pools of POOL_BATCHES batches are drawn at random and sorted, texts of equal length in random order; all batches are then
    shuffled. What is left over makes the last batch, drawn at random and not by its length.
    """
    order = rng.permutation(len(lengths))
    num_whole = len(order) - len(order) % batch_size
    pools = np.split(order[:num_whole], range(POOL_BATCHES * batch_size, num_whole, POOL_BATCHES * batch_size))
    by_length = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    batches = rng.permutation(np.concatenate(by_length).reshape(-1, batch_size))
    return np.concatenate([batches.ravel(), order[num_whole:]])


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Return all indices of `lengths` from the longest text to the shortest, the order that pads least."""
    order: list[int] = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    return order
