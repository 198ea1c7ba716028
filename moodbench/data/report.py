"""What a person should know about their own data before anything is trained on it. Pure; holds no text of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from moodbench.config.schema import DatasetEntry
from moodbench.data.examples import Examples
from moodbench.data.splits import SPLITS, normalised


@dataclass(frozen=True)
class Reading:
    """What became of the rows of a file."""

    file: str
    """Name of the file, without its folder."""
    format: str
    encoding: str | None
    separator: str | None
    num_rows: int
    dropped: Mapping[str, int]
    """Reason -> rows."""
    num_kept_together: int
    """Texts that share their side with a near-duplicate or another member of their group."""
    num_groups: int | None
    """Different values of the group column; None without one."""
    split_rule: str
    """How the splits were made, in words."""
    num_near_duplicates: int | None = None
    """Test texts with a near-duplicate in train; None where near-duplicates stand on one side anyway."""
    source_rows: Mapping[str, int] = field(default_factory=dict)
    """The source's own splits and their rows, where it has any."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataReport:
    """Counts and shares of one data set; goes into the events of a run."""

    dataset: str
    reading: Reading
    num_used: int
    counts: Mapping[str, Mapping[str, int]]
    """Class -> split -> rows; the last class is the positive one."""
    words_p50: int
    words_p95: int
    words_max: int
    max_length: int
    long_share: float
    """Share of texts with more words than `max_length`: at least so many are cut, as a text has no fewer tokens than words."""
    num_html_entities: int
    """Texts with an HTML entity such as &amp;, left as it is."""
    num_test_in_train: int
    """Test texts that are in the training split as well, after normalisation."""
    licence: str | None = None
    """Licence and terms of the texts; None for a person's own."""
    warnings: tuple[str, ...] = field(default=())

    def as_event(self) -> dict[str, Any]:
        """The report as one event of a run."""
        return {"event": "data_report", **asdict(self)}

    def lines(self) -> list[str]:
        """The report as lines for a terminal."""
        read = self.reading
        separator = f", separator {read.separator!r}" if read.separator else ""
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in read.dropped.items() if count) or "none"
        groups = "" if read.num_groups is None else f", {read.num_groups:,} groups whole"
        width = max(len(name) for name in (*self.counts, "class"))
        table = [["class", *SPLITS]] + [[n, *(f"{c[s]:,}" for s in SPLITS)] for n, c in self.counts.items()]
        return [
            f"{'Data set' if read.source_rows else 'Your data'} {self.dataset}: {read.file}, {read.format}{separator}{', ' + read.encoding if read.encoding else ''}",
            *([f"  licence: {self.licence}"] if self.licence else []),
            f"  rows: {read.num_rows:,} read, {self.num_used:,} used; dropped: {dropped}",
            *("  " + row[0].ljust(width) + "".join(cell.rjust(12) for cell in row[1:]) for row in table),
            f"  positive class: {list(self.counts)[-1]}",
            f"  splits: {read.split_rule}{groups} ({read.num_kept_together:,} texts kept beside others)",
            f"  words per text: median {self.words_p50:,}, P95 {self.words_p95:,}, longest {self.words_max:,}; "
            f"{self.long_share:.1%} have more than {self.max_length} words, so at least these are cut "
            "(models count tokens, of which a text has no fewer than words)",
            f"  HTML entities: in {self.num_html_entities:,} texts, left as they are",
            f"  test texts that are also in train: {self.num_test_in_train:,}",
            *(
                [f"  test texts with a near-duplicate in train: {read.num_near_duplicates:,}"]
                if read.num_near_duplicates is not None
                else []
            ),
            *(f"  warning: {warning}" for warning in self.warnings),
        ]


def data_report(examples: Examples, reading: Reading, max_length: int, entry: DatasetEntry | None = None) -> DataReport:
    """The report on the examples that are used; `entry` tells licence, terms and the published size of the source."""
    frame, labels = examples.frame, examples.labels
    words = np.array([len(text.split()) for text in frame["text"]])
    p50, p95 = np.percentile(words, [50, 95], method="inverted_cdf")
    norms = frame["text"].map(normalised)
    in_train = set(norms[frame["split"] == "train"])
    overlap = int(norms[frame["split"] == "test"].isin(in_train).sum())
    counts = {
        name: {s: int(((frame["label"] == i) & (frame["split"] == s)).sum()) for s in SPLITS}
        for i, name in enumerate(labels)
    }
    warnings = list(reading.warnings)
    if reading.encoding not in (None, "utf-8"):
        warnings.append(
            f"the file is not UTF-8 and was read as {reading.encoding}; look for wrong letters, or save it as UTF-8"
        )
    published = dict(entry.num_source_rows) if entry else {}
    rows = reading.source_rows
    differing = [f"{k} {rows.get(k, 0):,} for {n:,}" for k, n in published.items() if rows and rows.get(k) != n]
    if differing:
        warnings.append(f"the source has other sizes than published: {', '.join(differing)} rows")
    if overlap:
        warnings.append(
            f"{overlap:,} test texts are in train too, so scores flatter models that remember; "
            "without the split column, MoodBench splits without overlap"
        )
    return DataReport(
        dataset=examples.name,
        reading=reading,
        num_used=len(frame),
        counts=counts,
        words_p50=int(p50),
        words_p95=int(p95),
        words_max=int(words.max()),
        max_length=max_length,
        long_share=float((words > max_length).mean()),
        num_html_entities=int(
            frame["text"].str.contains(r"&(?:[A-Za-z][A-Za-z0-9]+|#[0-9]+|#[xX][0-9a-fA-F]+);").sum()
        ),
        num_test_in_train=overlap,
        licence=None if entry is None or examples.private else " · ".join(filter(None, (entry.licence, entry.terms))),
        warnings=tuple(warnings),
    )
