"""Operating-system counters of this process: CPU time, run delay (time spent waiting for a CPU) and memory."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from moodbench.runtime.forkserver import FILE_BYTES, status_bytes

TASKS = Path("/proc/self/task")
CANARY_BYTES, CANARY_ROUNDS = 2**16, 768
"""Size of the block that the canary hashes, small enough to leave the caches to the model, and how often."""


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

    Threads that compute one request together wait for the slowest of them. The sum of their delays would therefore
    count the same waiting time several times.
    """
    return max((delay - before[task] for task, delay in after.items() if task in before), default=None)


def cpu_seconds() -> float:
    """Return the CPU time of the calling thread in seconds, user and system time.

    It is about the time that a request would take without other load, since this thread takes part in all of its
    computation. The sum over threads would be larger than the request itself.
    """
    return time.thread_time_ns() / 1e9


def steal_by_cpu() -> list[float]:
    """Return the seconds for which a hypervisor gave each CPU of this machine to others; empty if that is unknown."""
    return [float(times.steal) for times in psutil.cpu_times(percpu=True) if hasattr(times, "steal")]


def canary_seconds() -> float:
    """Return the seconds of a fixed piece of work: hashing, which depends on nothing but the CPU that it gets.

    It takes 20 ms or more, several slices of a scheduler. A shorter one slips between the interruptions.
    """
    block = bytes(CANARY_BYTES)
    started = time.perf_counter()
    for _ in range(CANARY_ROUNDS):
        hashlib.sha256(block)
    return time.perf_counter() - started


class WindowLog:
    """Signals of consecutive windows: the canary before each, and during it wall, CPU and steal time and run delay."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | int | None]] = []
        self._delays = RunDelay()

    def begin(self, batch_size: int | None) -> None:
        """Run the canary and begin a window; `batch_size` is None for single requests."""
        self._row: dict[str, float | int | None] = {"batch_size": batch_size, "canary_s": canary_seconds()}
        self._delays.refresh()
        self._run_delay: float | None = None
        self._steal = steal_by_cpu()
        self._cpu, self._began = cpu_seconds(), time.perf_counter()

    def delays(self) -> dict[str, float]:
        """Return the run delay of each thread so far, for `add`."""
        return self._delays.by_thread()

    def add(self, before: Mapping[str, float]) -> float | None:
        """Add to the window the run delay since the reading `before`, and return it."""
        found = longest_delay(before, self._delays.by_thread())
        if found is not None:
            self._run_delay = (self._run_delay or 0.0) + found
        return found

    def end(self) -> None:
        """End the window."""
        wall, cpu = time.perf_counter() - self._began, cpu_seconds() - self._cpu
        stolen = max((after - before for before, after in zip(self._steal, steal_by_cpu(), strict=False)), default=None)
        self.rows.append(self._row | {"wall_s": wall, "cpu_s": cpu, "run_delay_s": self._run_delay, "steal_s": stolen})


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
