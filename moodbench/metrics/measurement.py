"""Samples of measurements: which windows to use, and quantiles with distribution-free intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # submodules are imported on first use; scipy.stats alone takes a second

CLEAN_RUN_DELAY = 0.02
"""Maximum run delay of a clean window, as a share of wall time."""
SUSPECT_RUN_DELAY = 0.05
"""Maximum run delay of a suspect window, as a share of wall time; above, a window is contaminated."""
MAX_STEAL = 0.05
"""Maximum time that a hypervisor gave to others in a clean window, as a share of wall time, beyond CLOCK_TICK_S."""
CLOCK_TICK_S = 0.01
"""Resolution in which the system counts that time."""
MAX_CANARY = 1.25
"""Maximum time of the canary before a clean window, as a ratio to that of a quick one in the same measurement."""
CLEAN_CPU_SHARE = 0.95
"""Minimum CPU time of a clean single-threaded window, as a share of wall time."""

MIN_CLEAN_SHARE = 0.7
"""Minimum share of clean windows of a clean measurement."""

State = Literal["clean", "suspect", "contaminated", "starved", "stolen", "slowed", "unknown"]

REASONS: dict[State, str] = {
    "suspect": "run delay of 2-5 % of wall time",
    "contaminated": "run delay above 5 % of wall time",
    "starved": "CPU time below 95 % of wall time",
    "stolen": "a hypervisor gave more than 5 % of wall time to others",
    "slowed": "a fixed piece of work before it took over a quarter longer than at best",
    "unknown": "no signal (run delay is not available here, and CPU time tells only for 1 thread)",
}


@dataclass(frozen=True)
class Window:
    """Clock readings of one window, a fixed list of requests; it deliberately has no latencies."""

    wall_s: float
    cpu_s: float
    """CPU time of the thread that answers the requests."""
    run_delay_s: float | None
    """Time that a runnable thread waited for a CPU, of the thread that waited longest in each request, summed over the
    requests (Linux schedstat); None on other systems."""
    steal_s: float | None = None
    """Time for which a hypervisor gave a CPU of this machine to others, of the CPU with most; None if unknown."""
    canary: float | None = None
    """Time of the canary, a fixed piece of work, before the window, as a ratio to its quick time; None without one."""

    def __post_init__(self) -> None:
        if not self.wall_s > 0:
            raise ValueError(f"wall_s is {self.wall_s}; a window takes time")


@dataclass(frozen=True)
class Verdict:
    """Verdict on a measurement, and which of its windows are used."""

    verdict: Literal["clean", "contaminated", "not steady", "unknown"]
    kept: tuple[bool, ...]
    """Whether the samples of each window are used; windows without a signal are kept."""
    share_clean: float | None
    """Share of clean windows; None if any window has no signal."""
    causes: tuple[str, ...]
    """Reasons why not all windows are clean, as phrases; empty if all are clean."""
    kept_batches: tuple[bool, ...] = ()
    """Whether each window of throughput is used; empty if these were not judged."""


def judge_windows(windows: Sequence[Window], *, num_threads: int) -> Verdict:
    """Return the verdict on a measurement from the signals of its windows, never from their latencies.

    The verdict is clean if at least 90 % of the windows are clean. It is also clean from 70 % on, and a cause then
    states the share. Below, it is contaminated. It is unknown if a window has no signal, or if there are no windows.
    Only clean windows, and those without a signal, are kept.
    Source: run delay finds slow windows with an AUC of 0.97-0.99; docs/score.md says how the limits were checked.
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
    if share >= MIN_CLEAN_SHARE:
        return Verdict("clean", kept, share, (f"only the {100 * share:.0f} % clean windows are used", *causes))
    return Verdict("contaminated", kept, share, (f"only {100 * share:.0f} % of windows are clean", *causes))


def _state(window: Window, num_threads: int) -> State:
    """Return the state of a window by its first signal that is not clean: delay, steal time, canary."""
    state = _state_by_delay(window, num_threads)
    if state not in ("clean", "unknown"):
        return state
    if window.steal_s is not None and window.steal_s - CLOCK_TICK_S > MAX_STEAL * window.wall_s:
        return "stolen"
    return "slowed" if window.canary is not None and window.canary > MAX_CANARY else state


def _state_by_delay(window: Window, num_threads: int) -> State:
    """Return the state of a window from its run delay or, if unavailable and single-threaded, from its CPU share."""
    if window.run_delay_s is not None:
        delay = window.run_delay_s / window.wall_s
        if delay <= CLEAN_RUN_DELAY:
            return "clean"
        return "suspect" if delay <= SUSPECT_RUN_DELAY else "contaminated"
    if num_threads == 1:
        return "clean" if window.cpu_s / window.wall_s >= CLEAN_CPU_SHARE else "starved"
    return "unknown"


def with_batches(verdict: Verdict, batches: Verdict) -> Verdict:
    """Return the `verdict` on single requests, disturbed if the windows of throughput, judged in `batches`, are."""
    causes = (*verdict.causes, *(f"throughput: {cause}" for cause in batches.causes))
    disturbed = "contaminated" in (verdict.verdict, batches.verdict)
    return replace(
        verdict,
        verdict="contaminated" if disturbed else verdict.verdict,
        causes=causes,
        kept_batches=batches.kept,
    )


LITTLE = 0.2
"""Largest gap of latency and throughput at batch size 1, as a share of the latency."""
LITTLE_S = 5e-5
"""Part of that gap that is allowed in any case: reading the clocks, making a batch."""


def with_little(verdict: Verdict, mean_latency_s: float, texts_per_s: float) -> Verdict:
    """Return `verdict`, but `not steady` if the latency and the throughput of single texts contradict each other.

    With one request at a time, throughput x mean latency is 1. A larger product means that an answer was not waited
    for, a smaller one that the machine was slower when the throughput was measured.
    Source: Little 1961, L = lambda W.
    """
    gap = 1 / texts_per_s - mean_latency_s
    if verdict.verdict == "contaminated" or abs(gap) <= LITTLE * mean_latency_s + LITTLE_S:
        return verdict
    cause = (
        f"throughput at batch size 1 gives {1000 / texts_per_s:.3g} ms for a text, "
        f"the single requests took {1000 * mean_latency_s:.3g} ms"
    )
    return replace(verdict, verdict="not steady", causes=(*verdict.causes, cause))


MAX_DRIFT = 0.10
"""Largest difference of median latency between halves of the processes of a steady measurement, as a share."""
DRIFT_ALPHA = 0.01
"""Level of the test that the halves differ at all."""
MIN_WINDOWS = 3
"""Fewest windows of a half that is compared with others."""


def with_steadiness(verdict: Verdict, processes: Sequence[Sequence[float]]) -> Verdict:
    """Return `verdict`, but `not steady` for an undisturbed measurement whose latencies drift.

    `processes` holds the median relative latency of each kept window, in order, for each process. The windows of each
    process are halved. They drift if the largest and the smallest median of the halves differ by more than MAX_DRIFT,
    and the test of Kruskal and Wallis finds that the halves differ. No window is dropped for its latency.
    Source: Kruskal & Wallis 1952.
    """
    halves = [half for windows in processes for half in np.array_split(np.asarray(windows), 2)]
    if verdict.verdict == "contaminated" or not halves or min(map(len, halves)) < MIN_WINDOWS:
        return verdict
    medians = [float(np.median(half)) for half in halves]
    drift = max(medians) / min(medians) - 1
    if drift <= MAX_DRIFT or scipy.stats.kruskal(*halves).pvalue > DRIFT_ALPHA:
        return verdict
    slowest, fastest = (f"process {i // 2 + 1}, half {i % 2 + 1}" for i in (np.argmax(medians), np.argmin(medians)))
    cause = f"latency differs by {100 * drift:.0f} % within the measurement ({slowest} against {fastest})"
    return replace(verdict, verdict="not steady", causes=(cause, *verdict.causes))


CONFIDENCE_NEEDED = 0.99
"""Confidence with which the samples must bound a quantile before its point estimate is published; MLPerf's value."""


@dataclass(frozen=True)
class QuantileEstimate:
    """A quantile of n samples, in the unit of the samples; values that n does not support are None."""

    q: float
    """Quantile as a share: 0.5 is the median."""
    point: float | None
    """Sample quantile (linear interpolation, Hyndman-Fan type 7); None (withheld) below `num_needed` samples."""
    low: float | None
    """Lower end of the interval; None if there are too few samples for one."""
    high: float | None
    """Upper end of the interval; None if there are too few samples for one."""
    level: float
    """Minimum coverage of the two-sided interval."""
    num_samples: int
    num_needed: int
    """Minimum number of samples to publish the point estimate."""


@cache
def samples_needed(q: float) -> int:
    """Return the minimum number of samples to publish the quantile q.

    It is 11 for q = 0.5, 64 for 0.9, 130 for 0.95 and 662 for 0.99: the smallest n for which the tail has at most one
    sample with probability <= 1 %, that is Binom(1; n, min(q, 1-q)) <= 0.01. The second most extreme sample then bounds
    the quantile with 99 % confidence, so that a single outlier does not decide. This is MLPerf LoadGen's early-stopping
    rule for single stream, which gives the 64 and 662. LoadGen has no number for other quantiles; we apply the same
    rule to all, including the median.
    Source: MLPerf inference, loadgen/early_stopping.cc.
    """
    # n samples have two in the tail with the probability that at most n - 2 others come before the second one.
    return 2 + int(scipy.stats.nbinom.ppf(CONFIDENCE_NEEDED, 2, min(_share(q), 1 - q)))


@cache
def interval_ranks(num_samples: int, q: float, level: float = 0.95) -> tuple[int | None, int | None]:
    """Return the 1-based ranks (low, high) of the two sorted samples that bound the quantile q.

    l = ppf(a/2; n, q) and u = ppf(1 - a/2; n, q) + 1 of the binomial distribution, with a = 1 - level; None for a rank
    outside 1 ... n.
    P(X(l) <= x_q <= X(u)) >= F(u-1; n, q) - F(l-1; n, q) >= level for independent samples of any distribution.
    Source: David & Nagaraja 2003, Order Statistics, section 7.1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; allowed is between 0 and 1")
    low = int(scipy.stats.binom.ppf((1 - level) / 2, num_samples, _share(q)))
    high = int(scipy.stats.binom.ppf((1 + level) / 2, num_samples, q)) + 1
    return (low if low >= 1 else None), (high if high <= num_samples else None)


def quantile_with_interval(samples: npt.ArrayLike, q: float, level: float = 0.95) -> QuantileEstimate:
    """Return the quantile q of one-dimensional samples with its order-statistic interval.

    The interval assumes independent samples, which requests are not: see `request_quantiles`.
    Raises: ValueError for empty, non-finite or multi-dimensional samples, and for `q` or `level` outside (0, 1).
    """
    values = np.sort(np.asarray(samples, dtype=np.float64))
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"samples have shape {values.shape}; needed is one dimension, at least one, all finite")
    low, high = interval_ranks(len(values), q, level)
    num_needed = samples_needed(q)
    return QuantileEstimate(
        q=q,
        point=float(np.quantile(values, q)) if len(values) >= num_needed else None,
        low=None if low is None else float(values[low - 1]),
        high=None if high is None else float(values[high - 1]),
        level=level,
        num_samples=len(values),
        num_needed=num_needed,
    )


NUM_DRAWS = 1000
"""Bootstrap draws of an interval."""
BLOCK_WINDOWS = 4
"""Consecutive windows that are drawn together, so that dependence between neighbours is kept."""


def request_quantiles(
    processes: Sequence[Sequence[npt.NDArray[np.float64]]], qs: Sequence[float], level: float = 0.95
) -> list[QuantileEstimate]:
    """Return the quantiles `qs` of all requests, with intervals that hold although requests depend on each other.

    `processes` has the samples of each window of each process. An interval covers three others: the one for independent
    samples; the percentiles of a circular block bootstrap of the windows of each process, for latencies that drift
    slowly; and Student's interval of the mean logarithm of the quantiles of the processes, for processes that differ as
    wholes, or of the blocks of a single process. An end that is None for independent samples remains None.
    Source: Politis & Romano 1992, for the circular block bootstrap; Schmeiser 1982, for the means of blocks.
    """
    used = [[np.asarray(window) for window in windows] for windows in processes if len(windows)]
    pooled = [quantile_with_interval(np.concatenate([w for windows in used for w in windows]), q, level) for q in qs]
    tail = expanded_tail(sum(-(-len(windows) // BLOCK_WINDOWS) for windows in used), level)
    drawn = np.quantile(_block_bootstrap(used, qs), [tail, 1 - tail], axis=0)
    wholes = used if len(used) > 1 else _blocks(used[0])
    between = [_between_wholes([float(np.quantile(np.concatenate(part), q)) for part in wholes], level) for q in qs]
    return [
        replace(
            estimate,
            low=None if estimate.low is None else min(estimate.low, float(low), process_low),
            high=None if estimate.high is None else max(estimate.high, float(high), process_high),
        )
        for estimate, low, high, (process_low, process_high) in zip(pooled, *drawn, between, strict=True)
    ]


def expanded_tail(n: int, level: float) -> float:
    """Return the share of bootstrap draws beyond either end of a percentile interval that allows for few items `n`.

    It is that of a normal distribution beyond sqrt(n / (n - 1)) times the quantile of t with n - 1 degrees of freedom.
    Source: Hesterberg 2015, American Statistician 69(4), section 5.2: the expanded percentile interval.
    """
    if n < 2:
        return 0.0
    reach = scipy.special.stdtrit(n - 1, (1 + level) / 2) * math.sqrt(n / (n - 1))
    return float(scipy.special.ndtr(-reach))


def _block_bootstrap(
    processes: Sequence[Sequence[npt.NDArray[np.float64]]], qs: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return the quantiles `qs` of the requests of each draw `(NUM_DRAWS, qs)`; the draws are the same each time."""
    rng = np.random.default_rng(0)
    times = np.concatenate([_times_drawn(len(windows), rng) for windows in processes], axis=1)
    windows = [window for process in processes for window in process]
    samples, owner = np.concatenate(windows), np.repeat(np.arange(len(windows)), [len(window) for window in windows])
    order = np.argsort(samples, kind="stable")
    reached = times.astype(np.int32)[:, owner[order]].cumsum(axis=1, dtype=np.int32)
    wanted = [np.ceil(q * reached[:, -1:]).astype(np.int32) for q in qs]
    ranks = [(reached < least).sum(axis=1) for least in wanted]
    return samples[order][np.stack(ranks, axis=1)]


def _times_drawn(num_windows: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each window is in each draw `(NUM_DRAWS, num_windows)` of blocks of neighbours."""
    size = min(BLOCK_WINDOWS, num_windows)
    starts = rng.integers(0, num_windows, (NUM_DRAWS, -(-num_windows // size)))
    drawn = ((starts[:, :, None] + np.arange(size)) % num_windows).reshape(NUM_DRAWS, -1)[:, :num_windows]
    cells = drawn + num_windows * np.arange(NUM_DRAWS)[:, None]
    return np.bincount(cells.ravel(), minlength=NUM_DRAWS * num_windows).reshape(NUM_DRAWS, num_windows)


def _blocks(windows: Sequence[npt.NDArray[np.float64]]) -> list[Sequence[npt.NDArray[np.float64]]]:
    """Return the windows of one process in blocks of about BLOCK_WINDOWS neighbours."""
    ends = np.linspace(0, len(windows), max(1, len(windows) // BLOCK_WINDOWS) + 1).astype(int)
    return [windows[start:end] for start, end in pairwise(ends)]


def _between_wholes(quantiles: Sequence[float], level: float) -> tuple[float, float]:
    """Return Student's interval of the mean logarithm of the `quantiles`, all positive; empty for a single one."""
    if len(quantiles) < 2:
        return math.inf, -math.inf
    logs = np.log(quantiles)
    middle, error = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(len(logs))
    reach = float(scipy.stats.t.ppf((1 + level) / 2, len(logs) - 1)) * error
    return math.exp(middle - reach), math.exp(middle + reach)


def _share(q: float) -> float:
    """Return `q`; raise ValueError unless 0 < q < 1."""
    if not (math.isfinite(q) and 0 < q < 1):
        raise ValueError(f"q is {q}; allowed is between 0 and 1, as 0.99 for the 99th percentile")
    return q
