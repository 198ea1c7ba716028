"""Confirmation of a search: the winner as a model of its own, to be compared with the default on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from moodbench.config import Catalogue
from moodbench.config.catalogue import merge
from moodbench.config.schema import ModelEntry
from moodbench.config.search_space import QUANTIZATION, overrides
from moodbench.spec import BenchmarkSpec, FitSpec, TrialSpec
from moodbench.store import Store
from moodbench.tune.search import Search
from moodbench.tune.trials import SearchTrial


def tuned_name(model: str, search_id: str) -> str:
    """Return the leaderboard name of the winner of a search for `model`; each search has its own."""
    return f"{model}-tuned-{search_id[:6]}"


def tuned_entry(
    search: Search,
    best: SearchTrial,
    num_tried: int,
    catalogue: Catalogue,
    spec: BenchmarkSpec,
    *,
    default_wins: bool = False,
) -> ModelEntry:
    """Return the catalogue entry of the trial `best`: its model's, changed by the options of `spec` and the search.

    With `default_wins`, the default recipe is the winner and `best` the best of the others.
    """
    assert search.base.lora is not None
    entry = catalogue.model(best.model)
    changed: dict[str, dict[str, Any]] = overrides({**search.fixed, **best.configuration}, search.base.lora)
    return entry.model_copy(
        update={
            "lora": merge(merge(entry.lora, spec.lora), changed["lora"]),
            "train": merge(merge(entry.train, spec.train), changed["train"]),
            "text": merge(entry.text, spec.text),
            "quantization": best.configuration.get(QUANTIZATION, search.base.quantization),
            "description": f"{best.model} with the best of {num_tried} configurations of {best.space} "
            f"on {best.dataset}'s validation split"
            + (", where the default recipe stays the pick" if default_wins else ""),
        }
    )


def tested_before(store: Store, search: Search, trials: Sequence[SearchTrial]) -> set[str]:
    """Return the fit ids of `trials` whose recipe was evaluated on the test split as the winner of the search."""
    fits, evaluations = store.records("fits"), store.records("evaluations")
    if not len(fits) or not len(evaluations):
        return set()
    name = tuned_name(search.base.model.name, search.search_id)
    rows = fits[(fits["model"] == name) & fits["fit_id"].isin(set(evaluations["fit_id"]))]
    tested = set[str]()
    for text in rows["spec"]:
        try:
            spec = FitSpec.model_validate_json(text)
        except ValidationError:  # written by another version, so not by a search of this one
            continue
        tested.add(spec.model_copy(update={"model": search.base.model, "seeds": search.base.seeds}).fit_id)
    return tested & {t.fit_id for t in trials}


def evaluated(trials: Sequence[TrialSpec], seed: int, store: Store) -> list[TrialSpec]:
    """Return the trials with this seed whose evaluation is in `store`.

    A trial that failed before is not tried again only to be measured.
    """
    there = store.ids("evaluations")
    return [trial for trial in trials if trial.fit.seeds.init == seed and trial.evaluate.evaluation_id in there]
