"""Results as plain Parquet and files: they are committed and read, never appended to, locked or rewritten."""

from moodbench.store.commit import Attempt, write_table
from moodbench.store.schema import METRIC_COLUMNS, PREDICTIONS, SAMPLES, SCHEMA_VERSION, stamped
from moodbench.store.store import Store
