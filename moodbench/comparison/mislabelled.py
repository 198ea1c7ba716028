"""Texts whose given label is probably wrong: nearly all contenders confidently say another one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
MIN_SHARE = 0.8
"""Of the contenders must say another label than the given one."""
MIN_CONTENDERS = 2


def suspects(labels: npt.ArrayLike, probabilities: Mapping[str, Floats]) -> pd.DataFrame:
    """The suspicious texts, the least believed label first: label, suggested, num_wrong, num_contenders, given, stated.

    `labels` `(n,)`; `probabilities` of each contender `(n, k)`, averaged over its seeds. `row` is the text's place among them;
    `given` and `stated` are the probabilities of the given and the suggested label averaged over the contenders.
    A text is listed where at least MIN_SHARE of the contenders say another label, and together they are at least as sure
    of it as they are, on average, of texts that bear it. Contenders that say the same label of every text have not read
    them and do not count. Empty with fewer than MIN_CONTENDERS others.
    Source: Northcutt, Jiang & Chuang 2021 (confident learning: the threshold of each class), on averaged probabilities.
    """
    truth = np.asarray(labels, dtype=np.int64)
    columns = ["row", "label", "suggested", "num_wrong", "num_contenders", "given", "stated"]
    readers = [table for table in probabilities.values() if len(np.unique(table.argmax(axis=1))) > 1]
    if len(readers) < MIN_CONTENDERS:
        return pd.DataFrame(columns=columns)
    mean = np.mean(readers, axis=0)
    thresholds = np.array([mean[truth == c, c].mean() if (truth == c).any() else 1.0 for c in range(mean.shape[1])])
    num_wrong = np.sum([table.argmax(axis=1) != truth for table in readers], axis=0)
    rows = np.arange(len(truth))
    others = np.where(np.eye(mean.shape[1], dtype=bool)[truth], -1.0, mean)
    suggested = others.argmax(axis=1)
    stated, given = mean[rows, suggested], mean[rows, truth]
    listed = (num_wrong >= MIN_SHARE * len(readers)) & (stated >= thresholds[suggested])
    values = (rows, truth, suggested, num_wrong, len(readers), given, stated)
    found = pd.DataFrame(dict(zip(columns, values, strict=True)))[listed]
    return found.sort_values(["given", "row"], ignore_index=True)
