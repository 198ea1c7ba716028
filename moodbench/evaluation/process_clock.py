"""Operating-system counters of this process: CPU time, run delay (time spent waiting for a CPU) and memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from moodbench.runtime.forkserver import FILE_BYTES, status_bytes

TASKS = Path("/proc/self/task")


class RunDelay:
    """Run delay: time that the threads of this process were ready to run but waited for a CPU (Linux schedstat)."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self.available = (TASKS / str(os.getpid()) / "schedstat").exists()
        self.refresh()

    def refresh(self) -> None:
        """Register threads that were started since the last call."""
        if self.available:
            for folder in TASKS.iterdir():
                if folder.name not in self._open:
                    try:
                        self._open[folder.name] = os.open(folder / "schedstat", os.O_RDONLY)
                    except FileNotFoundError:
                        continue

    def by_thread(self) -> dict[str, float]:
        """Return the run delay of each registered thread that has not ended, in seconds; empty without schedstat."""
        found = {}
        for task, handle in list(self._open.items()):
            try:
                found[task] = int(os.pread(handle, 100, 0).split()[1]) / 1e9
            except ProcessLookupError:
                os.close(self._open.pop(task))
        return found


def longest_delay(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Return the run delay, between two readings, of the thread that waited longest; None without readings.

    Threads that compute one request together wait for the slowest of them. The sum of their delays would therefore count
    the same waiting time several times.
    """
    return max((delay - before[task] for task, delay in after.items() if task in before), default=None)


def cpu_seconds() -> float:
    """Return the CPU time of the calling thread in seconds, user and system time.

    It is about the time that a request would take without other load, since this thread takes part in all of its
    computation. The sum over threads would be larger than the request itself.
    """
    return time.thread_time_ns() / 1e9


def resident_bytes() -> int:
    """Return the current resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the peak resident memory in bytes since the process started or since `reset_peak`.

    Exact on Linux and macOS. In a forked process it includes the libraries that a new process would have mapped.
    """
    if Path("/proc/self/status").exists():
        inherited = int(os.environ.get(FILE_BYTES, 0))
        return status_bytes("VmHWM") + max(0, inherited - (status_bytes("RssFile") if inherited else 0))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def reset_peak() -> bool:
    """Reset the memory peak to the current use, and return whether that worked.

    It works on Linux only; elsewhere the peak remains that of the whole process lifetime.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
