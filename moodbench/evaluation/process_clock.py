"""What the operating system knows of this process: CPU time, time spent waiting for a CPU, memory."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil

TASKS = Path("/proc/self/task")


class RunDelay:
    """Seconds that the threads of this process were ready to run but had no CPU (Linux schedstat)."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._ended_ns = 0
        self._last: dict[str, int] = {}
        self.available = (TASKS / str(os.getpid()) / "schedstat").exists()
        self.refresh()

    def refresh(self) -> None:
        """Nothing; takes notice of threads started since the last call."""
        if self.available:
            for folder in TASKS.iterdir():
                if folder.name not in self._open:
                    try:
                        self._open[folder.name] = os.open(folder / "schedstat", os.O_RDONLY)
                    except FileNotFoundError:
                        continue

    def seconds(self) -> float | None:
        """The sum over all threads seen so far, ended ones included; None where the system does not tell."""
        if not self.available:
            return None
        for task, handle in list(self._open.items()):
            try:
                self._last[task] = int(os.pread(handle, 100, 0).split()[1])
            except ProcessLookupError:
                os.close(self._open.pop(task))
                self._ended_ns += self._last.pop(task, 0)
        return (self._ended_ns + sum(self._last.values())) / 1e9


def cpu_seconds() -> float:
    """CPU time of this process, all threads, user and system."""
    return time.process_time_ns() / 1e9


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The most memory this process has had in RAM since it started or since `reset_peak`: exact on Linux and macOS."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def reset_peak() -> bool:
    """True when the peak was set back to the memory in use now (Linux); elsewhere the peak is that of the whole life."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
