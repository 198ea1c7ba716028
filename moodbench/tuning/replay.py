"""What early stopping costs and saves: recorded learning curves of full trainings played through the schedulers of a search.

`python -m moodbench.tuning.replay CURVES.json` prints a table; `--store STORE --search ID` takes the curves of a search that
stopped nothing (`--scheduler none`), and `--output` keeps them as such a file. Nothing is trained.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moodbench.store import Store
from moodbench.tuning.records import search_trials
from moodbench.tuning.schedulers import SCHEDULERS, PastTrial, scheduler_of

Curve = Sequence[tuple[int, float]]
"""Texts trained and the validation score then, more is better."""
TOLERANCE = 0.005


@dataclass(frozen=True)
class Replay:
    """One search played again."""

    share: float
    """Texts trained, of those that training every configuration to its end takes."""
    regret: float
    """Best score of all full trainings less that of the pick."""


def replay(curves: Sequence[Curve], scheduler: Any, order: Sequence[int], num_workers: int) -> Replay:
    """The outcome of starting the configurations in `order`, `num_workers` at a time, where all train equally fast.

    The pick is the best of those that were trained to their end. A configuration's score is the best of its curve.
    """
    from ray.tune.schedulers import TrialScheduler

    waiting, spent, finished = list(order), 0, []
    running: list[tuple[int, int, int, Any]] = []  # texts on the clock, start number, point that comes next, trial

    def start(clock: int) -> None:
        if waiting:
            number = waiting.pop(0)
            trial = PastTrial(str(number))
            if scheduler is not None:
                scheduler.on_trial_add(None, trial)
            heapq.heappush(running, (clock + curves[number][0][0], len(curves) - len(waiting), 0, trial))

    for _ in range(num_workers):
        start(0)
    while running:
        clock, started, point, trial = heapq.heappop(running)
        curve = curves[int(trial.trial_id)]
        best = max(score for _, score in curve[: point + 1])
        result = {"texts": curve[point][0], "score": best}
        last = point + 1 == len(curve)
        decision = None
        if scheduler is not None:
            if last:
                scheduler.on_trial_complete(None, trial, result)
            else:
                decision = scheduler.on_trial_result(None, trial, result)
        if last or decision == TrialScheduler.STOP:
            spent += curve[point][0]
            if last:
                finished.append(best)
            start(clock)
        else:
            heapq.heappush(running, (clock + curve[point + 1][0] - curve[point][0], started, point + 1, trial))
    full = sum(curve[-1][0] for curve in curves)
    top = max(score for curve in curves for _, score in curve)
    return Replay(spent / full, top - max(finished, default=-np.inf))


def replays(
    curves: Sequence[Curve], make: Callable[[], Any], num_replays: int, num_workers: int, seed: int = 0
) -> list[Replay]:
    """Replays with the configurations in random orders, a scheduler made anew for each."""
    generator = np.random.default_rng(seed)
    return [replay(curves, make(), list(generator.permutation(len(curves))), num_workers) for _ in range(num_replays)]


def table(curves: Sequence[Curve], num_replays: int, num_workers: int) -> str:
    """Markdown: scheduler, mean share of the steps of full training, regret in points, and how often it is at most 0.5."""
    longest = max(curve[-1][0] for curve in curves)
    lines = [
        "| scheduler | steps of full training | points lost, mean | at most 0.5 points lost |",
        "| --- | --- | --- | --- |",
    ]
    for name in SCHEDULERS:
        found = replays(curves, lambda name=name: scheduler_of(name, longest, "max"), num_replays, num_workers)  # type: ignore[misc]
        share, lost = np.mean([r.share for r in found]), np.mean([r.regret for r in found])
        near = np.mean([r.regret <= TOLERANCE for r in found])
        lines.append(f"| {name} | {100 * share:.0f} % | {100 * lost:.2f} | {100 * near:.0f} % of replays |")
    return "\n".join(lines)


def read_curves(path: Path) -> list[Curve]:
    """The curves of a file that `main` wrote."""
    return [[(int(t), float(s)) for t, s in each["curve"]] for each in json.loads(path.read_text("utf-8"))["trials"]]


def main(given: Sequence[str] | None = None) -> None:
    """Nothing; prints the table."""
    parser = argparse.ArgumentParser(prog="python -m moodbench.tuning.replay", description=__doc__)
    parser.add_argument("curves", nargs="?", type=Path, help="a file of curves")
    parser.add_argument("--store", help="where the search is, instead of a file")
    parser.add_argument("--search", help="its id, as searches/ in the store names it")
    parser.add_argument("--output", type=Path, help="keep the curves of the search as a file")
    parser.add_argument("--replays", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2, help="configurations at a time")
    arguments = parser.parse_args(given)
    if (arguments.curves is None) == (arguments.store is None):
        parser.error("give a file of curves, or --store and --search")
    if arguments.curves is not None:
        curves = read_curves(arguments.curves)
    else:
        trials = [t for t in search_trials(Store.open(arguments.store), arguments.search) if t.status == "finished"]
        if len({t.search_id for t in trials}) != 1 or any(t.metric == "nll" for t in trials):
            parser.error("--search: name one search whose score is accuracy or F1")
        curves = [t.curve for t in trials]
        if arguments.output is not None:
            kept = [{"configuration": t.configuration, "curve": t.curve} for t in trials]
            head = {"model": trials[0].model, "dataset": trials[0].dataset, "metric": trials[0].metric}
            arguments.output.write_text(json.dumps({**head, "trials": kept}, indent=0), "utf-8")
    sys.stdout.write(table(curves, arguments.replays, arguments.workers) + "\n")


if __name__ == "__main__":
    main()
