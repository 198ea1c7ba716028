"""One attempt at one phase: its files are staged, validated and published, then a record makes them count.

    staging/ATTEMPT.lock         locked by the process that works in staging/ATTEMPT/, for as long as it lives
    staging/ATTEMPT/             files of one attempt before they are published
    staging/fit-ID/ATTEMPT/      checkpoints of one attempt at a fit, kept until any attempt commits it

The operating system frees a lock when its holder ends, for whatever reason, so a lock that can be acquired has no
holder. This is reliable only if one operating system manages all locks of a file system. On a shared file system (such
as NFS), it is trusted only for attempts that started on this machine since its last boot. Attempts that are not known
to be dead are kept, and `verify` lists them.
"""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from types import TracebackType
from typing import Any
from uuid import uuid4

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from moodbench.store.integrity import sealed
from moodbench.store.location import Location, sha256_of
from moodbench.store.schema import FAILURES, RECORDS, SCHEMA_VERSION, stamped

try:
    import fcntl
except ImportError:  # Windows: no attempt is known to be dead, so nothing is swept
    fcntl = None  # type: ignore[assignment]

KEEP_CHECKPOINTS_S = 14 * 86400.0
"""Seconds after which checkpoints that no attempt resumed are removed; the fit can still restart from scratch."""
KEEP_ATTEMPTS = 3
CLAIMING_S = 3600.0
"""Seconds after which a `.lock.new` file is attributed to a process that ended while it created its lock."""
FILE_SYSTEMS_OF_ONE_MACHINE = frozenset(
    [
        "apfs",
        "btrfs",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "hfs",
        "jfs",
        "overlay",
        "ramfs",
        "reiserfs",
        "tmpfs",
        "ufs",
        "xfs",
        "zfs",
    ]
)


class Attempt:
    """Private staging folder of one attempt, from which results are committed, and the lock on it.

    Use as a context manager: the lock is held until exit or until the process ends, and on exit, whatever is left in
    the folder is removed.
    """

    def __init__(self, location: Location) -> None:
        self._location, self._staging = location, location.staging()
        self.name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}"
        self.folder = self._staging / self.name
        self._fits: list[str] = []

    def __enter__(self) -> Attempt:
        self._staging.mkdir(parents=True, exist_ok=True)
        # An interrupt can hit any step of this method and of `__exit__`; this finalizer then cleans up.
        self._left = weakref.finalize(self, _end, self._staging, self.name, self._fits)
        made = self._staging / f"{self.name}.lock.new"
        # Locked before it gets its final name, so that nobody sees it unlocked while its owner lives.
        self._file = made.open("w", encoding="utf-8")
        self._file.write(_this_machine())
        self._file.flush()
        if fcntl is not None:
            with suppress(OSError):  # no locks on this file system: attempts are never known to be dead
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        made.rename(self._staging / f"{self.name}.lock")
        self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._staging, self.name, self._fits)
        self._left.detach()
        self._file.close()

    def checkpoints(self, fit_id: str) -> tuple[Path, list[Path]]:
        """Return a new folder for this attempt's checkpoints of `fit_id`, and those of other attempts, newest first.

        Checkpoints outlive the attempt. They are removed when any attempt commits the fit. Of the attempts that have
        ended, only the newest KEEP_ATTEMPTS are kept: each has copied the best checkpoint of those before it.
        """
        folder = self._staging / f"fit-{fit_id}"
        own = folder / self.name
        self._fits.append(fit_id)
        own.mkdir(parents=True)
        ended = [p for p in _ended(self._staging, folder) if _holds_a_file(p)]
        for old in ended[:-KEEP_ATTEMPTS]:
            shutil.rmtree(old, ignore_errors=True)
        return own, sorted((p for p in folder.iterdir() if p.is_dir() and p != own), reverse=True)

    def commit(self, kind: str, id_: str, record: Mapping[str, Any], outputs: Mapping[str, Path]) -> bool:
        """Publish `outputs`, then create the `record` of `kind` under `id_`, and return whether there was none yet.

        `outputs` maps keys in the store to staged files or folders. The record is created only if none exists;
        otherwise all files of this attempt are moved to duplicates/. A kill at any moment leaves either no record or
        a complete one, whose files all exist with the sizes and hashes that it names.
        """
        won = self._commit(kind, id_, record, outputs)
        checkpoints = self._staging / f"fit-{id_}"
        for own in (checkpoints / self.name, *_ended(self._staging, checkpoints)):
            shutil.rmtree(own, ignore_errors=True)
        remove_if_empty(checkpoints)
        return won

    def _commit(self, kind: str, id_: str, record: Mapping[str, Any], outputs: Mapping[str, Path]) -> bool:
        schema, id_column = RECORDS[kind]
        if find_record(self._location, kind, id_):
            self._set_aside(id_, outputs, [])
            return False
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
            return True
        self._set_aside(id_, {}, published)
        return False

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
        return write_table(sealed(table), self.folder / name)

    def _set_aside(self, id_: str, staged: Mapping[str, Path], published: list[str]) -> None:
        files = {**staged, **{key: self._location.local(key) for key in published}}
        for key, path in files.items():
            is_folder = path.is_dir()
            target = f"duplicates/{id_}/{self.name}/{key.rpartition('/')[2]}"
            (self._location.create_folder if is_folder else self._location.create)(path, target)
            # A local folder was renamed, and another attempt may hold its former name by now.
            if key in published and not (is_folder and self._location.exclusive):
                self._location.delete(key)


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
    """Return the id in a record's key: its folder for a failure, which is named by its attempt, else its name."""
    if key.startswith("failures/"):
        return key.split("/")[1]
    return key.rpartition("/")[2].removesuffix(".parquet").partition("@")[0]


def remove_abandoned(staging: Path, committed: Set[str], now: float | None = None) -> list[str]:
    """Remove what dead attempts left in `staging`, and return the removed names.

    Removed are the folders of dead attempts, abandoned `.lock.new` files, folders without a lock that have been
    unchanged for CLAIMING_S, and checkpoint folders of ended attempts that
    are empty, belong to a fit in `committed`, or have been unchanged for KEEP_CHECKPOINTS_S at the time `now` (seconds
    since 1970; default: the current time).
    """
    if not staging.is_dir():
        return []
    removed = []
    for path in sorted(staging.glob("*.lock")):
        if _is_dead(path):
            shutil.rmtree(staging / path.stem, ignore_errors=True)
            path.unlink(missing_ok=True)
            removed.append(path.stem)
    now = time.time() if now is None else now
    for path in sorted(staging.glob("*.lock.new")):
        if _last_change(path) < now - CLAIMING_S and _is_dead(path):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    for folder in sorted(p for p in staging.iterdir() if p.is_dir() and not p.name.startswith("fit-")):
        has_lock = any((staging / f"{folder.name}{suffix}").exists() for suffix in (".lock", ".lock.new"))
        if not has_lock and _last_change(folder) < now - CLAIMING_S:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
    oldest = now - KEEP_CHECKPOINTS_S
    for folder in sorted(staging.glob("fit-*")):
        done = folder.name.removeprefix("fit-") in committed
        for own in _ended(staging, folder):
            if done or not _holds_a_file(own) or _last_change(own) < oldest:
                shutil.rmtree(own, ignore_errors=True)
                removed.append(f"{folder.name}/{own.name}")
        remove_if_empty(folder)
    return removed


def remove_if_empty(folder: Path) -> None:
    """Remove `folder` if it is empty."""
    with suppress(OSError):
        folder.rmdir()


def _end(staging: Path, name: str, fits: Sequence[str]) -> None:
    """Remove everything of the attempt `name` except its checkpoints of `fits`; the lock is removed last."""
    shutil.rmtree(staging / name, ignore_errors=True)
    for fit_id in fits:
        remove_if_empty(staging / f"fit-{fit_id}" / name)
        remove_if_empty(staging / f"fit-{fit_id}")
    for suffix in (".lock.new", ".lock"):
        (staging / f"{name}{suffix}").unlink(missing_ok=True)


def _ended(staging: Path, folder: Path) -> Iterator[Path]:
    """Yield the folders in `folder` whose attempt has ended, oldest first.

    An attempt acquires its lock before it creates a folder, so the attempt of a folder without a lock has ended.
    """
    for own in sorted(p for p in folder.glob("*") if p.is_dir()):
        lock = staging / f"{own.name}.lock"
        if not lock.exists() or _is_dead(lock):
            yield own


def _holds_a_file(folder: Path) -> bool:
    """Return whether there is a file anywhere below `folder`.

    A process that is killed while it makes a checkpoint can leave an empty checkpoint folder.
    """
    return any(path.is_file() for path in folder.rglob("*"))


def _is_dead(lock: Path) -> bool:
    """Return whether the process that created `lock` has certainly ended."""
    if fcntl is None:
        return False
    try:
        with lock.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _one_machine_alone(lock) or file.read() == _this_machine()
    except OSError:
        return False


def _this_machine() -> str:
    """Return an identifier of this machine that changes with every boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{gethostname()} {boot.read_text().strip() if boot.exists() else format(psutil.boot_time(), '.0f')}"


def _one_machine_alone(path: Path) -> bool:
    """Return whether `path` is on a file system that only one machine can have mounted."""
    resolved = path.resolve()
    mounts = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    kind = next((mounts[parent] for parent in resolved.parents if parent in mounts), "")
    return kind in FILE_SYSTEMS_OF_ONE_MACHINE


def _last_change(folder: Path) -> float:
    """Return the latest modification time of `folder` (or a file) and its contents, in seconds since 1970."""
    times = []
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)
