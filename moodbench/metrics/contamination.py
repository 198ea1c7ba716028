"""Whether other load on the machine reached a measurement, and which of its windows may be kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CLEAN_RUN_DELAY = 0.02
"""Run delay as a share of wall time up to which a window is clean."""
SUSPECT_RUN_DELAY = 0.05
"""... and up to which it is suspect; above it is contaminated."""
CLEAN_CPU_SHARE = 0.95
"""CPU time as a share of wall time from which on a one-thread window is clean."""

State = Literal["clean", "suspect", "contaminated", "starved", "unknown"]

REASONS: dict[State, str] = {
    "suspect": "run delay of 2-5 % of wall time",
    "contaminated": "run delay above 5 % of wall time",
    "starved": "CPU time below 95 % of wall time",
    "unknown": "no signal (run delay is not available here, and CPU time tells only for 1 thread)",
}


@dataclass(frozen=True)
class Window:
    """The clocks over one window, a fixed list of requests. Their latencies are not here, on purpose."""

    wall_s: float
    cpu_s: float
    """CPU time of the measuring process, all its threads."""
    run_delay_s: float | None
    """Time its threads, added up, were ready and waited for a CPU (Linux schedstat); None elsewhere."""

    def __post_init__(self) -> None:
        if not self.wall_s > 0:
            raise ValueError(f"wall_s is {self.wall_s}; a window takes time")


@dataclass(frozen=True)
class Verdict:
    """What may be said about a measurement."""

    verdict: Literal["clean", "contaminated", "unknown"]
    kept: tuple[bool, ...]
    """For each window, whether its samples are used; without a signal nothing is dropped."""
    share_clean: float | None
    """Clean windows as a share of all; None when any window could not be judged."""
    causes: tuple[str, ...]
    """Why not all windows are clean, as sentences; empty when all are."""


def judge_windows(windows: Sequence[Window], *, num_threads: int) -> Verdict:
    """The verdict on a measurement from its windows' signals, never from their latencies.

    At least 90 % clean: clean. At least 70 %: clean, on the kept windows, and a cause names the share. Less:
    contaminated. One window without a signal, or no window: unknown. Only clean windows are kept.
    Run delay is compared with wall time once, not per thread: with several threads this errs towards contaminated.
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
    """What the window's best signal says: run delay, else for one thread the CPU share of wall time."""
    if window.run_delay_s is not None:
        delay = window.run_delay_s / window.wall_s
        if delay <= CLEAN_RUN_DELAY:
            return "clean"
        return "suspect" if delay <= SUSPECT_RUN_DELAY else "contaminated"
    if num_threads == 1:
        return "clean" if window.cpu_s / window.wall_s >= CLEAN_CPU_SHARE else "starved"
    return "unknown"
