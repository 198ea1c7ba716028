"""The staging area: who works in which folder, what a stopped fit leaves for the next, and what may be swept.

    staging/ATTEMPT.lock         locked by the process that works in staging/ATTEMPT/, for as long as it lives
    staging/ATTEMPT/             files of one attempt, before they are published
    staging/fit-ID/ATTEMPT/      checkpoints of one attempt at a fit, kept until some attempt commits it

The system frees a lock when its holder ends, however it ends, so a lock that can be taken has no holder. That holds where
one system alone holds the locks of a file system; on a shared one (NFS and the like) it is believed only of attempts that
were begun on this very machine since it was started. What is not known to be dead is left alone, and `verify` lists it.
"""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path

import psutil

from moodbench.hardware import node_name

try:
    import fcntl
except ImportError:  # Windows: nothing can be known to be dead, so nothing is swept
    fcntl = None  # type: ignore[assignment]

KEEP_CHECKPOINTS_S = 14 * 86400.0
"""A fit that nobody has taken up for so long loses its checkpoints; it can still be begun anew."""
KEEP_ATTEMPTS = 3
CLAIMING_S = 3600.0
"""A lock file without its name after so long belongs to a process that ended while it made the file."""
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


class Claim:
    """The lock on one attempt's folder. It ends with `release`, or with the process."""

    def __init__(self, staging: Path, name: str) -> None:
        staging.mkdir(parents=True, exist_ok=True)
        self._staging, self._name = staging, name
        self._fits: list[str] = []
        # An interrupt can meet any step of this and of `release`; what is left then goes with this object or with the process.
        self._left = weakref.finalize(self, _end, staging, name, self._fits)
        made = staging / f"{name}.lock.new"
        # Locked before it has its name: nobody ever sees it unlocked while its owner lives.
        self._file = made.open("w", encoding="utf-8")
        self._file.write(_this_machine())
        self._file.flush()
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: its attempts are never known to be dead
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        made.rename(staging / f"{name}.lock")

    def open_checkpoints(self, fit_id: str) -> tuple[Path, list[Path]]:
        """The new folder of this attempt at `fit_id`, and those of other attempts, the newest first.

        Of attempts that have ended only the newest KEEP_ATTEMPTS are kept: each has copied the best of those before it.
        """
        folder = self._staging / f"fit-{fit_id}"
        own = folder / self._name
        self._fits.append(fit_id)
        own.mkdir(parents=True)
        ended = [p for p in _ended(self._staging, folder) if _holds_a_file(p)]
        for old in ended[:-KEEP_ATTEMPTS]:
            shutil.rmtree(old, ignore_errors=True)
        return own, sorted((p for p in folder.iterdir() if p.is_dir() and p != own), reverse=True)

    def release(self) -> None:
        """Nothing; the attempt has ended: its folder goes, and that of its checkpoints where it left none."""
        _end(self._staging, self._name, self._fits)
        self._left.detach()
        self._file.close()


def sweep(staging: Path, committed: Set[str], now: float | None = None) -> list[str]:
    """The names of what was removed: folders of dead attempts, locks that were never taken, and checkpoints of use to nobody.

    The last are empty ones, those of fits in `committed`, and those that nobody took up for long (until `now`).
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
    oldest = now - KEEP_CHECKPOINTS_S
    for folder in sorted(staging.glob("fit-*")):
        done = folder.name.removeprefix("fit-") in committed
        for own in _ended(staging, folder):
            if done or not _holds_a_file(own) or _last_change(own) < oldest:
                shutil.rmtree(own, ignore_errors=True)
                removed.append(f"{folder.name}/{own.name}")
        remove_if_empty(folder)
    return removed


def forget(staging: Path, fit_id: str, name: str) -> None:
    """Nothing; the fit is committed: its checkpoints by the attempt `name` and by every attempt that has ended go."""
    folder = staging / f"fit-{fit_id}"
    for own in (folder / name, *_ended(staging, folder)):
        shutil.rmtree(own, ignore_errors=True)
    remove_if_empty(folder)


def remove_if_empty(folder: Path) -> None:
    """Nothing; a folder with something in it stays."""
    with suppress(OSError):
        folder.rmdir()


def _end(staging: Path, name: str, fits: Sequence[str]) -> None:
    """Nothing; of the attempt `name` only its checkpoints of `fits` are left, and its lock goes last."""
    shutil.rmtree(staging / name, ignore_errors=True)
    for fit_id in fits:
        remove_if_empty(staging / f"fit-{fit_id}" / name)
        remove_if_empty(staging / f"fit-{fit_id}")
    for suffix in (".lock.new", ".lock"):
        (staging / f"{name}{suffix}").unlink(missing_ok=True)


def _ended(staging: Path, folder: Path) -> Iterator[Path]:
    """The folders in `folder` whose attempt has ended, the oldest first: an attempt has its lock before it has a folder."""
    for own in sorted(p for p in folder.glob("*") if p.is_dir()):
        lock = staging / f"{own.name}.lock"
        if not lock.exists() or _is_dead(lock):
            yield own


def _holds_a_file(folder: Path) -> bool:
    """Whether there is a file anywhere below; one that is ended as it makes a checkpoint can leave that folder alone."""
    return any(path.is_file() for path in folder.rglob("*"))


def _is_dead(lock: Path) -> bool:
    """Whether the process that made `lock` has certainly ended."""
    if fcntl is None:
        return False
    try:
        with lock.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _one_machine_alone(lock) or file.read() == _this_machine()
    except OSError:
        return False


def _this_machine() -> str:
    """This machine since its start."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{node_name()} {boot.read_text().strip()}" if boot.exists() else f"{node_name()} {psutil.boot_time():.0f}"


def _one_machine_alone(path: Path) -> bool:
    """Whether `path` is on a file system that one machine alone can have mounted."""
    resolved = path.resolve()
    mounts = {Path(p.mountpoint): p.fstype for p in psutil.disk_partitions(all=True)}
    kind = next((mounts[parent] for parent in resolved.parents if parent in mounts), "")
    return kind in FILE_SYSTEMS_OF_ONE_MACHINE


def _last_change(folder: Path) -> float:
    """When `folder` or something in it was last changed, in seconds since 1970; a file alone will do."""
    times = []
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)
