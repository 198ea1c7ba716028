"""Reruns of trials: where their results are stored, and whether they reproduced the first ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from moodbench.benchmark.context import RunContext
from moodbench.plan import Plan
from moodbench.spec import TrialSpec
from moodbench.spec.canonical import content_id
from moodbench.store import Store


@dataclass(frozen=True)
class Repeat:
    """One evaluation that two stores hold under the same id; in each pair the value of the first store comes first."""

    evaluation_id: str
    model: str
    dataset: str
    seed: int
    num_texts: int
    num_flips: int
    """Number of texts whose predicted label differs."""
    max_logit_difference: float
    """Largest absolute difference between two logits; 0 if they are equal bit for bit."""
    accuracy: tuple[float, float]
    train_time_s: tuple[float, float]
    """Training time in seconds."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values in base units."""
        return asdict(self)


def open_rerun(context: RunContext, trials: Sequence[TrialSpec]) -> tuple[RunContext, Plan]:
    """Return the context with the store for a rerun of `trials`, and the plan of what it lacks.

    The store is the newest rerun below the store of `context` that was started for exactly these trials and is
    incomplete, otherwise a new one.
    """
    ids = sorted([t.fit.fit_id, t.evaluate.evaluation_id, t.measure.measurement_id] for t in trials)
    request = content_id("rerun", ids)[:12]
    for begun in context.store.reruns(request):
        again = replace(context, store=begun)
        plan = again.plan(trials)
        if plan.trials:
            return again, plan
    again = replace(context, store=context.store.new_rerun(request))
    return again, again.plan(trials)


def compare_repeats(first: Store, again: Store) -> list[Repeat]:
    """Return one comparison per evaluation that both stores hold, sorted by dataset, model and seed."""
    shared = sorted(first.ids("evaluations") & again.ids("evaluations"))
    if not shared:
        return []
    evaluations = [_by_id(store, "evaluations", "evaluation_id") for store in (first, again)]
    fits = [_by_id(store, "fits", "fit_id") for store in (first, again)]
    repeats = []
    for id_ in shared:
        before, after = (_logits(store, id_) for store in (first, again))
        a, b = (np.stack(frame["logits"].tolist()) for frame in (before, after.loc[before.index]))
        row, other = (by_id[id_] for by_id in evaluations)
        fit = fits[1][row["fit_id"]]
        repeats.append(
            Repeat(
                evaluation_id=id_,
                model=str(fit["model"]),
                dataset=str(fit["dataset"]),
                seed=int(fit["seed"]),
                num_texts=len(a),
                num_flips=int((a.argmax(axis=1) != b.argmax(axis=1)).sum()),
                max_logit_difference=float(np.abs(a - b).max()),
                accuracy=(float(row["accuracy"]), float(other["accuracy"])),
                train_time_s=(float(fits[0][row["fit_id"]]["train_time_s"]), float(fit["train_time_s"])),
            )
        )
    return sorted(repeats, key=lambda r: (r.dataset, r.model, r.seed))


def _by_id(store: Store, kind: str, column: str) -> dict[str, dict[str, Any]]:
    rows: Any = store.records(kind).to_dict("records")
    return {row[column]: row for row in rows}


def _logits(store: Store, evaluation_id: str) -> pd.DataFrame:
    return store.predictions([evaluation_id]).set_index("example_id")
