"""Probably mislabelled examples: nearly all entries confidently predict another label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
MIN_SHARE = 0.8
"""Minimum share of the entries that predict another label than the given one."""
MIN_ENTRIES = 2


def suspects(labels: npt.ArrayLike, probabilities: Mapping[str, Floats]) -> pd.DataFrame:
    """Return the suspicious examples, one row each, the least probable given label first.

    `labels` is `(n,)`; `probabilities` of each entry are `(n, k)`, averaged over its seeds. Columns: `row` (index of
    the example), label, suggested, num_wrong, num_entries (entries counted), and `given` and `stated`, the
    probabilities of the given and the suggested label averaged over the entries.
    An example is listed if at least MIN_SHARE of the entries predict another label, and their mean probability of the
    suggested label is at least their mean over the examples with that label. Entries that predict the same label for
    every example have learned nothing and do not count. Empty if fewer than MIN_ENTRIES remain.
    Source: Northcutt, Jiang & Chuang 2021 (confident learning: the threshold of each class), on averaged probabilities.
    """
    truth = np.asarray(labels, dtype=np.int64)
    columns = ["row", "label", "suggested", "num_wrong", "num_entries", "given", "stated"]
    readers = [table for table in probabilities.values() if len(np.unique(table.argmax(axis=1))) > 1]
    if len(readers) < MIN_ENTRIES:
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
