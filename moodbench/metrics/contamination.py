"""Detect measurements that were disturbed by other load on the machine, and select the windows to keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CLEAN_RUN_DELAY = 0.02
"""Maximum run delay of a clean window, as a share of wall time."""
SUSPECT_RUN_DELAY = 0.05
"""Maximum run delay of a suspect window, as a share of wall time; above, a window is contaminated."""
CLEAN_CPU_SHARE = 0.95
"""Minimum CPU time of a clean single-threaded window, as a share of wall time."""

State = Literal["clean", "suspect", "contaminated", "starved", "unknown"]

REASONS: dict[State, str] = {
    "suspect": "run delay of 2-5 % of wall time",
    "contaminated": "run delay above 5 % of wall time",
    "starved": "CPU time below 95 % of wall time",
    "unknown": "no signal (run delay is not available here, and CPU time tells only for 1 thread)",
}


@dataclass(frozen=True)
class Window:
    """Clock readings of one window, a fixed list of requests; it deliberately has no latencies."""

    wall_s: float
    cpu_s: float
    """CPU time of the measuring process over all its threads."""
    run_delay_s: float | None
    """Time that runnable threads waited for a CPU, summed over threads (Linux schedstat); None on other systems."""

    def __post_init__(self) -> None:
        if not self.wall_s > 0:
            raise ValueError(f"wall_s is {self.wall_s}; a window takes time")


@dataclass(frozen=True)
class Verdict:
    """Verdict on a measurement, and which of its windows are used."""

    verdict: Literal["clean", "contaminated", "unknown"]
    kept: tuple[bool, ...]
    """Whether the samples of each window are used; windows without a signal are kept."""
    share_clean: float | None
    """Share of clean windows; None if any window has no signal."""
    causes: tuple[str, ...]
    """Reasons why not all windows are clean, as phrases; empty if all are clean."""


def judge_windows(windows: Sequence[Window], *, num_threads: int) -> Verdict:
    """Return the verdict on a measurement from the signals of its windows, never from their latencies.

    The verdict is clean if at least 90 % of the windows are clean. It is also clean from 70 % on, and a cause then
    states the share. Below, it is contaminated. It is unknown if a window has no signal, or if there are no windows.
    Only clean windows, and those without a signal, are kept.
    The run delay of all threads is compared with the wall time, not with the wall time per thread; with several threads
    this errs towards contaminated.
    Source: thresholds and evidence in the measurement protocol (run delay finds slow windows with AUC 0.97-0.99).
    """
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; at least 1")
    states = [_state(window, num_threads) for window in windows]
    kept = tuple(state in ("clean", "unknown") for state in states)
    seen = Counter(states)
    causes = tuple(f"{seen[state]} of {len(states)} windows: {why}" for state, why in REASONS.items() if seen[state])
    if not states:
        return Verdict("unknown", kept, None, ("no windows",))
    if seen["unknown"]:
        return Verdict("unknown", kept, None, causes)
    share = seen["clean"] / len(states)
    if 10 * seen["clean"] >= 9 * len(states):
        return Verdict("clean", kept, share, causes)
    if 10 * seen["clean"] >= 7 * len(states):
        return Verdict("clean", kept, share, (f"only the {100 * share:.0f} % clean windows are used", *causes))
    return Verdict("contaminated", kept, share, (f"only {100 * share:.0f} % of windows are clean", *causes))


def _state(window: Window, num_threads: int) -> State:
    """Return the state of a window from its run delay or, if unavailable and single-threaded, from its CPU share."""
    if window.run_delay_s is not None:
        delay = window.run_delay_s / window.wall_s
        if delay <= CLEAN_RUN_DELAY:
            return "clean"
        return "suspect" if delay <= SUSPECT_RUN_DELAY else "contaminated"
    if num_threads == 1:
        return "clean" if window.cpu_s / window.wall_s >= CLEAN_CPU_SHARE else "starved"
    return "unknown"
