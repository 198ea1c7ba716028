"""One attempt at one phase: its files are staged, validated and published, then a record makes them count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from moodbench.store.location import Location, sha256_of
from moodbench.store.schema import FAILURES, RECORDS, SCHEMA_VERSION, stamped
from moodbench.store.staging import AttemptLock, remove_checkpoints


@dataclass(frozen=True)
class Committed:
    """Outcome of a commit."""

    kind: str
    id: str
    won: bool
    """False if a record of another attempt already exists; the files of this one are then under duplicates/."""


class Attempt:
    """Private staging folder of one attempt, from which results are committed.

    Use as a context manager: on exit, whatever is left in the folder is removed.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self.name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}"
        self.folder = location.staging() / self.name
        self._lock: AttemptLock | None = None

    def __enter__(self) -> Attempt:
        self._lock = AttemptLock(self.folder.parent, self.name)
        self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock:
            self._lock.release()

    def checkpoints(self, fit_id: str) -> tuple[Path, list[Path]]:
        """Return a new folder for this attempt's checkpoints of `fit_id`, and those of other attempts, newest first.

        Checkpoints outlive the attempt. They are removed when any attempt commits the fit.
        """
        assert self._lock, "outside of its `with`"
        return self._lock.open_checkpoints(fit_id)

    def commit(self, kind: str, id_: str, record: Mapping[str, Any], outputs: Mapping[str, Path]) -> Committed:
        """Publish `outputs`, then create the `record` of `kind` under `id_`.

        `outputs` maps keys in the store to staged files or folders. The record is created only if none exists;
        otherwise all files of this attempt are moved to duplicates/. A kill at any moment leaves either no record or
        a complete one, whose files all exist with the sizes and hashes that it names.
        """
        committed = self._commit(kind, id_, record, outputs)
        remove_checkpoints(self.folder.parent, id_, self.name)
        return committed

    def _commit(self, kind: str, id_: str, record: Mapping[str, Any], outputs: Mapping[str, Path]) -> Committed:
        schema, id_column = RECORDS[kind]
        if find_record(self._location, kind, id_):
            return self._set_aside(kind, id_, outputs, [])
        files: list[dict[str, Any]] = []
        published: list[str] = []
        for wanted, path in outputs.items():
            members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            facts = [(p.relative_to(path).as_posix(), p.stat().st_size, sha256_of(p)) for p in members]
            key = self._publish(path, wanted)
            published.append(key)
            for member, size, digest in facts:
                files.append({"path": key if member == "." else f"{key}/{member}", "bytes": size, "sha256": digest})
        row = {**record, id_column: id_, "schema_version": str(SCHEMA_VERSION), "files": files}
        staged = self._write_row(schema, row, f"{kind}.parquet")
        if self._location.create(staged, record_key(kind, id_, None if self._location.exclusive else self.name)):
            return Committed(kind, id_, won=True)
        return self._set_aside(kind, id_, {}, published)

    def fail(self, id_: str, record: Mapping[str, Any]) -> str:
        """Publish the failure `record` of phase `id_` and return its key; failures never block later attempts."""
        row = {**record, "id": id_, "attempt": self.name, "schema_version": str(SCHEMA_VERSION)}
        key = f"failures/{id_}/{self.name}.parquet"
        self._location.create(self._write_row(FAILURES, row, "failure.parquet"), key)
        return key

    def _publish(self, path: Path, wanted: str) -> str:
        create = self._location.create_folder if path.is_dir() else self._location.create
        if self._location.exclusive and create(path, wanted):
            return wanted
        # Another attempt, committed or not, already uses that name; the record names the key that is used instead.
        stem, dot, suffix = wanted.rpartition("/")[2].partition(".")
        key = f"{wanted.rpartition('/')[0]}/{stem}@{self.name}{dot}{suffix}"
        if not create(path, key):
            raise FileExistsError(key)
        return key

    def _write_row(self, schema: pa.Schema, row: Mapping[str, Any], name: str) -> Path:
        unknown = set(row) - set(schema.names)
        if unknown:
            raise KeyError(f"not columns of {name}: {sorted(unknown)}")
        table = pa.Table.from_pylist([dict(row)], schema=stamped(schema))
        return write_table(table, self.folder / name)

    def _set_aside(self, kind: str, id_: str, staged: Mapping[str, Path], published: list[str]) -> Committed:
        base = f"duplicates/{id_}/{self.name}"
        for key, path in staged.items():
            target = f"{base}/{key.rpartition('/')[2]}"
            (self._location.create_folder if path.is_dir() else self._location.create)(path, target)
        for key in published:
            path = self._location.local(key)
            target = f"{base}/{key.rpartition('/')[2]}"
            is_folder = path.is_dir()
            (self._location.create_folder if is_folder else self._location.create)(path, target)
            # A local folder was renamed, and another attempt may hold its former name by now.
            if not (is_folder and self._location.exclusive):
                self._location.delete(key)
        return Committed(kind, id_, won=False)


def write_table(table: pa.Table, path: Path) -> Path:
    """Write `table` to `path` as zstd Parquet with page checksums, and return `path`.

    Raises: OSError if the table that is read back differs.
    """
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    back = pq.read_table(path, partitioning=None)
    if not back.equals(table):
        raise OSError(f"{path}: the file read back differs from what was written")
    return path


def record_key(kind: str, id_: str, attempt: str | None = None) -> str:
    """Return the key of a record, such as fits/ab/ab12....parquet.

    `attempt` is added to the name where creation is not exclusive: fits/ab/ab12...@ATTEMPT.parquet.
    """
    return f"{kind}/{id_[:2]}/{id_}{'@' + attempt if attempt else ''}.parquet"


def find_record(location: Location, kind: str, id_: str) -> str | None:
    """Return the key of the valid record of `id_`, the first by attempt name, or None."""
    names = [k for k in location.keys(f"{kind}/{id_[:2]}") if id_of_key(k) == id_]
    return min(names) if names else None


def id_of_key(key: str) -> str:
    """Return the id in a record's key."""
    return key.rpartition("/")[2].removesuffix(".parquet").partition("@")[0]
