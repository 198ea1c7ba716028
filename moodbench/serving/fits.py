"""Selection of a fit by its id or by the name of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from moodbench.benchmark.from_store import fit_spec_of
from moodbench.errors import StoreError, UnknownNameError
from moodbench.spec import FitSpec
from moodbench.store import Store

SEARCH_RUN = "search-"
"""Prefix of the run ids of search trials."""


@dataclass(frozen=True)
class ChosenFit:
    """The selected fit of a store."""

    spec: FitSpec
    record: dict[str, Any]
    num_alternatives: int
    """Number of other fits of the same model in the store."""

    @property
    def fit_id(self) -> str:
        """Id of the fit."""
        return str(self.record["fit_id"])

    def __str__(self) -> str:
        """Return a description for messages: model, id, dataset, number of training texts, seed."""
        record = self.record
        return (
            f"{record['model']}, fit {self.fit_id} ({record['dataset']}, {record['num_train']:,} training texts, "
            f"seed {record['seed']})"
        )


def choose_fit(store: Store, model: str) -> ChosenFit:
    """Return the fit with the id `model`, or the preferred fit of the model with this name.

    Order of preference: fits that are not search trials (these do not use the recipe of the model), then the most
    training texts, the lowest seed, and the newest.
    Raises: UnknownNameError, which suggests the nearest name; StoreError if the store has no fit.
    """
    fits = store.records("fits")
    fits = fits[fits["status"] == "ok"]
    if fits.empty:
        raise StoreError(f"{store.uri}: has no fit yet; start with `moodbench run quickstart`, or give --store")
    found = fits[fits["fit_id"] == model]
    if found.empty:
        found = fits[fits["model"] == model]
    if found.empty:
        known = fits["fit_id"] if re.fullmatch("[0-9a-f]{8,20}", model) else fits["model"]
        raise UnknownNameError(f"model in {store.uri}:", model, set(known))
    found = found.assign(tried=found["run_id"].fillna("").str.startswith(SEARCH_RUN))
    best = found.sort_values(["tried", "num_train", "seed", "ended_at"], ascending=[True, False, True, False]).iloc[0]
    best = best.drop("tried")
    spec = fit_spec_of(best, store.uri)
    others = int((fits["model"] == best["model"]).sum()) - 1
    return ChosenFit(spec, dict(best), others)
