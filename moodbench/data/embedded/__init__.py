"""Three small datasets of human-rated sentences that come with MoodBench; README.md describes them."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from moodbench.errors import UnknownNameError

if TYPE_CHECKING:
    import pyarrow as pa

EMBEDDED = ("icwsm-movie", "icwsm-product", "icwsm-tweets")
"""Names that `read_embedded` accepts; each is a Parquet file in this folder."""


def read_embedded(name: str) -> pa.Table:
    """Return the table of an embedded dataset, one row per sentence in the order of the original file.

    Columns: `source_id`, `text`, `mean_rating` (-4..+4, mean of the raw ratings), `published_mean`, `rating_counts`
    (nine counts, for the ratings -4..+4), `group` (rows that must be in the same split) and `split`. The schema
    metadata holds the title, licence, citation, provenance, and the label and split rules.
    """
    if name not in EMBEDDED:
        raise UnknownNameError("embedded dataset", name, EMBEDDED)
    import pyarrow.parquet as pq

    with files(__name__).joinpath(f"{name}.parquet").open("rb") as file:
        return pq.read_table(file)
