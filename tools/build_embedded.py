"""Build the embedded Parquet files from the files that Hutto & Gilbert published.

    python tools/build_embedded.py SOURCE_DIR [OUT_DIR]

With the same version of pyarrow, the same source files give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from moodbench.data.embedded import EMBEDDED
from moodbench.data.examples import RATINGS, content_key
from moodbench.data.near_duplicates import JACCARD, MIN_WORDS, find_clusters
from moodbench.data.splits import stratified_group_split
from moodbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

CITATION = (
    "Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social "
    "Media Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann Arbor, MI, June 2014."
)
DATA_FOLDER = Path(__file__).resolve().parents[1] / "moodbench" / "data" / "embedded"
PROVENANCE = "source archive of the Python package vaderSentiment 0.5, folder additional_resources"
SPLIT_RULE = (
    "70/10/20 train/validation/test by SHA-256 of the text, stratified by rating_stratum. Whole groups stay together: "
    f"sentences of one review, and near-duplicates (equal after normalisation, or Jaccard >= {JACCARD} of the word "
    f"sets of texts with at least {MIN_WORDS} distinct words), merged transitively. See moodbench/data/near_duplicates.py."
)


@dataclass(frozen=True)
class Source:
    """Source files of one dataset."""

    stem: str
    """Common prefix of the names of its two files."""
    title: str
    id_names_review: bool = False
    """Whether ids have the form REVIEW_SENTENCE; the sentences of one review then form a group."""

    @property
    def texts_file(self) -> str:
        """Name of the file with the id, published mean and text of each sentence."""
        return f"{self.stem}_GroundTruth.txt"

    @property
    def ratings_file(self) -> str:
        """Name of the file with the id, mean, standard deviation and list of raw ratings of each sentence."""
        return f"{self.stem}_anonDataRatings.txt"


SOURCES = {
    "icwsm-movie": Source("movieReviewSnippets", "Movie review sentences rated by people"),
    "icwsm-product": Source("amazonReviewSnippets", "Product review sentences rated by people", id_names_review=True),
    "icwsm-tweets": Source("tweets", "Tweet-like texts rated by people"),
}


class Row(NamedTuple):
    """One sentence with its ratings."""

    source_id: str
    text: str
    mean_rating: float
    published_mean: float
    rating_counts: list[int]


def rating_stratum(mean_rating: float) -> int:
    """Return the stratum of a mean rating: -2, -1, 0, 1 or 2.

    It is 0 if |rating| < 0.05, otherwise the sign of the rating, doubled if |rating| >= 0.5.
    Labels cut at 0.05 (three classes) and at 0.5 (two classes, the middle left out) are both unions of strata.
    """
    strength = (abs(mean_rating) >= 0.05) + (abs(mean_rating) >= 0.5)
    return strength if mean_rating > 0 else -strength


def read_source(folder: Path, source: Source) -> list[Row]:
    """Return the sentences of a source in file order, joined with their ratings by id."""
    where = source.ratings_file
    ratings = {fields[0]: fields[3] for fields in _fields(folder / where, 4)}
    rows = []
    for source_id, published_mean, text in _fields(folder / source.texts_file, 3):
        if source_id not in ratings:
            raise DataError(f"{where}: no ratings for id {source_id!r}")
        given = json.loads(ratings.pop(source_id))
        if not given or not set(given) <= set(RATINGS):
            raise DataError(f"{where}, id {source_id!r}: ratings must be whole numbers from -4 to 4: {given}")
        count = Counter(given)
        counts = [count[rating] for rating in RATINGS]
        text = unicodedata.normalize("NFC", text)
        rows.append(Row(source_id, text, sum(given) / len(given), float(published_mean), counts))
    if ratings:
        raise DataError(f"{where}: ids without a sentence: {', '.join(sorted(ratings)[:5])}")
    return rows


def build_table(name: str, folder: Path) -> pa.Table:
    """Return the table of one dataset with its groups and splits; the schema metadata describes it."""
    import pyarrow as pa

    source = SOURCES[name]
    rows = read_source(folder, source)
    texts = [row.text for row in rows]
    reviews = [row.source_id.partition("_")[0] for row in rows] if source.id_names_review else None
    clusters = find_clusters(texts, reviews).ids.tolist()
    first_id: dict[int, str] = {}
    groups = [first_id.setdefault(cluster, row.source_id) for cluster, row in zip(clusters, rows, strict=True)]
    strata = [rating_stratum(row.mean_rating) for row in rows]
    splits = stratified_group_split(strata, groups, [content_key(text) for text in texts])
    metadata = {
        "name": name,
        "title": source.title,
        "licence": "MIT",
        "citation": CITATION,
        "provenance": PROVENANCE,
        "source_sha256": json.dumps(
            {file: _sha256(folder / file) for file in (source.texts_file, source.ratings_file)}
        ),
        "label_rule": "mean_rating is the mean of the raw ratings counted in rating_counts, from -4 to +4",
        "split_rule": SPLIT_RULE,
    }
    columns = {
        "source_id": pa.array([row.source_id for row in rows], pa.string()),
        "text": pa.array(texts, pa.string()),
        "mean_rating": pa.array([row.mean_rating for row in rows], pa.float64()),
        "published_mean": pa.array([row.published_mean for row in rows], pa.float64()),
        "rating_counts": pa.array([row.rating_counts for row in rows], pa.list_(pa.int32(), len(RATINGS))),
        "group": pa.array(groups, pa.string()),
        "split": pa.array(splits.tolist(), pa.string()),
    }
    return pa.table(columns).replace_schema_metadata(metadata)


def main(argv: Sequence[str] | None = None) -> None:
    """Write one Parquet file per embedded dataset."""
    parser = argparse.ArgumentParser(prog="python tools/build_embedded.py", description=__doc__)
    parser.add_argument("source_dir", type=Path, help="folder with the original *_GroundTruth.txt and ratings files")
    parser.add_argument("out_dir", type=Path, nargs="?", default=DATA_FOLDER, help="default: %(default)s")
    args = parser.parse_args(argv)
    import pyarrow.parquet as pq

    for name in EMBEDDED:
        table = build_table(name, args.source_dir)
        path = args.out_dir / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=19)
        log.info("%s: %d rows, %d bytes", path, table.num_rows, path.stat().st_size)


def _fields(path: Path, num_fields: int) -> Iterator[list[str]]:
    """Yield the tab-separated fields of each line; only the last field may contain tabs."""
    # Not splitlines: it also splits at characters such as U+0085 and U+2028.
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), start=1):
        fields = line.removesuffix("\r").split("\t", num_fields - 1)
        if len(fields) == num_fields:
            yield fields
        elif fields != [""]:
            raise DataError(f"{path.name}, line {number}: {len(fields)} tab-separated fields, expected {num_fields}")


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
