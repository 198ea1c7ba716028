"""Replay recorded learning curves of full trainings through each trial scheduler: what early stopping saves and costs.

`python tools/replay_schedulers.py CURVES.json` prints a table. `--store STORE --search ID` reads the curves of a search
that stopped no trial (`--scheduler none`), and `--output` saves them as such a file. Nothing is trained.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moodbench.store import Store
from moodbench.tune.result import beats
from moodbench.tune.schedulers import SCHEDULERS, SchedulerName, StoppingRule, stopping_rule
from moodbench.tune.search import Search, registered
from moodbench.tune.trials import SearchTrial, search_trials

Curve = Sequence[tuple[int, float]]
"""Pairs of texts trained and validation score; higher is better."""
NEAR = 0.005
"""Largest regret at which the winner counts as equal to the best configuration."""


class Recorded(NamedTuple):
    """Learning curves of one search."""

    curves: Sequence[Curve]
    chance: float | None
    """Chance level: the best validation score of predictions made without reading the texts; see `chance_level`."""
    default: int | None
    """Index of the default recipe's curve; None if it is not among them."""


@dataclass(frozen=True)
class Replay:
    """Outcome of one replayed search."""

    share: float
    """Texts trained, as a share of the texts that training every configuration to its end takes."""
    regret: float
    """Best score of all full trainings minus the score of the winner's full training."""


def replay(
    curves: Sequence[Curve],
    rule: StoppingRule | None,
    order: Sequence[int],
    num_workers: int,
    default: int | None = None,
) -> Replay:
    """Replay a search that starts the configurations in `order`, `num_workers` at a time, all equally fast.

    The winner is the configuration with the best score seen; on ties, the one trained further. As in a search, the
    configuration with index `default` is never stopped and remains the winner unless another one `beats` it. The regret
    uses the score of the winner's full training, because the confirmation trains the winner in full.
    """
    waiting, spent, seen = list(order), 0, list[tuple[float, int, int]]()
    running: list[tuple[int, int, int, int]] = []  # clock in texts, start number, next point, configuration

    def start(clock: int) -> None:
        if waiting:
            number = waiting.pop(0)
            heapq.heappush(running, (clock + curves[number][0][0], len(curves) - len(waiting), 0, number))

    for _ in range(num_workers):
        start(0)
    while running:
        clock, started, point, number = heapq.heappop(running)
        curve = curves[number]
        texts, best = curve[point][0], max(score for _, score in curve[: point + 1])
        keeps = rule is None or rule.keeps(str(number), texts, best) or number == default
        if point + 1 == len(curve) or not keeps:
            spent += texts
            seen.append((best, texts, number))
            start(clock)
        else:
            heapq.heappush(running, (clock + curve[point + 1][0] - texts, started, point + 1, number))
    full = sum(curve[-1][0] for curve in curves)
    reached = [max(score for _, score in curve) for curve in curves]
    best, _, pick = max(seen)
    if default is not None:
        pick = pick if beats(best, reached[default]) else default
    return Replay(spent / full, max(reached) - reached[pick])


def replays(
    curves: Sequence[Curve],
    make: Callable[[], StoppingRule | None],
    num_replays: int,
    num_workers: int,
    seed: int = 0,
    *,
    default: int | None = None,
) -> list[Replay]:
    """Replay the search `num_replays` times, with the configurations in random order and a new rule each time.

    The configuration with index `default`, if given, always comes first.
    """
    generator = np.random.default_rng(seed)
    orders = (generator.permutation(len(curves)).tolist() for _ in range(num_replays))
    begun = [] if default is None else [default]
    return [
        replay(curves, make(), [*begun, *(n for n in order if n != default)], num_workers, default) for order in orders
    ]


def table(recorded: Recorded, num_replays: int, num_workers: int) -> str:
    """Return a Markdown table of what each trial scheduler saves and costs.

    Its columns: mean share of the steps of full training, mean regret in points, and share of replays with a regret of
    at most 0.5 points. As in every search, the default recipe, if it is among the curves, is tried first and preferred
    as the winner. The other configurations follow in random order.
    """
    curves, chance, default = recorded
    longest = max(curve[-1][0] for curve in curves)
    lines = [
        "| scheduler | steps of full training | points lost, mean | at most 0.5 points lost |",
        "| --- | --- | --- | --- |",
    ]
    for name in SCHEDULERS:

        def make(name: SchedulerName = name) -> StoppingRule | None:
            return stopping_rule(name, longest, chance)

        found = replays(curves, make, num_replays, num_workers, default=default)
        share, lost = np.mean([r.share for r in found]), np.mean([r.regret for r in found])
        near = np.mean([r.regret <= NEAR for r in found])
        lines.append(f"| {name} | {100 * share:.0f} % | {100 * lost:.2f} | {100 * near:.0f} % of replays |")
    return "\n".join(lines)


def recording(trials: Sequence[SearchTrial], searches: Sequence[Search]) -> str:
    """Return the curves of `trials` and the settings of their `searches` as JSON, with one line per trial.

    All searches have the same recipe.
    """
    first = searches[0]
    assert first.base.train is not None
    head = {
        "model": first.base.model.name,
        "dataset": first.base.dataset.name,
        "space": first.space_name,
        "metric": first.metric,
        "chance": first.chance,
        "num_train": first.num_train,
        "max_validation_examples": first.base.dataset.max_validation_examples,
        "searcher": first.searcher,
        "search_seeds": [each.space.seed for each in searches],
        "training_seed": first.space.training_seed,
        "train": first.base.train.model_dump(mode="json"),
    }
    lines = [
        json.dumps(
            {"configuration": t.configuration, "is_default": t.fit_id == first.base.fit_id, "curve": t.curve},
            sort_keys=True,
        )
        for t in trials
    ]
    opening = json.dumps({**head, "trials": []}, indent=1)
    return opening.replace('"trials": []', '"trials": [\n  ' + ",\n  ".join(lines) + "\n ]") + "\n"


def read_curves(text: str) -> Recorded:
    """Parse the curves from the output of `recording`."""
    held = json.loads(text)
    trials = held["trials"]
    curves = [[(int(t), float(s)) for t, s in each["curve"]] for each in trials]
    default = next((number for number, each in enumerate(trials) if each["is_default"]), None)
    return Recorded(curves, held["chance"], default)


def main(given: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python tools/replay_schedulers.py", description=__doc__)
    parser.add_argument("curves", nargs="?", type=Path, help="a file of curves")
    parser.add_argument("--store", help="where the search is, instead of a file")
    parser.add_argument(
        "--search", nargs="+", help="its id, as searches/ in the store names it; several ids of searches of one recipe"
    )
    parser.add_argument("--output", type=Path, help="keep the curves of the search as a file")
    parser.add_argument("--replays", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2, help="configurations at a time")
    arguments = parser.parse_args(given)
    if (arguments.curves is None) == (arguments.store is None):
        parser.error("give a file of curves, or --store and --search")
    if arguments.curves is not None:
        text = arguments.curves.read_text("utf-8")
    else:
        store = Store.open(arguments.store)
        requests = [registered(store, each) for each in arguments.search or ()]
        known = [each for each in requests if each is not None]
        if not known or len(known) < len(requests) or len({each.base.fit_id for each in known}) > 1:
            parser.error("--search: give ids of searches of one recipe, all with a request.json in the store")
        if known[0].metric == "nll":
            parser.error("--search: the score is nll; give a search whose score is accuracy or F1")
        trials = {t.fit_id: t for each in known for t in search_trials(store, each.search_id) if t.status == "finished"}
        if not trials:
            parser.error("--search: none of its configurations was trained to its end; let the search go on first")
        text = recording(list(trials.values()), known)
        if arguments.output is not None:
            arguments.output.write_text(text, "utf-8")
    sys.stdout.write(table(read_curves(text), arguments.replays, arguments.workers) + "\n")


if __name__ == "__main__":
    main()
