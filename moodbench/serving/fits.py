"""The fit that a person means by an id or a model's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from moodbench.benchmark.existing import fit_spec_of
from moodbench.errors import StoreError, UnknownNameError
from moodbench.spec import FitSpec
from moodbench.store import Store

SEARCH_RUN = "search-"
"""How the run ids of what a search tries begin."""


@dataclass(frozen=True)
class ChosenFit:
    """One fit of a store."""

    spec: FitSpec
    record: dict[str, Any]
    num_alternatives: int
    """Other fits of the same model in the store."""

    @property
    def fit_id(self) -> str:
        """Its id."""
        return str(self.record["fit_id"])

    def __str__(self) -> str:
        """What it is, for a notice: model, id, data set, training texts, seed."""
        record = self.record
        return (
            f"{record['model']}, fit {self.fit_id} ({record['dataset']}, {record['num_train']:,} training texts, "
            f"seed {record['seed']})"
        )


def choose_fit(store: Store, model: str) -> ChosenFit:
    """The fit with the id `model`; or of the fits of the model so named the one with the most training texts, then the
    lowest seed, then the newest. What a search tried comes last, as it is not the model's recipe. UnknownNameError suggests the nearest, StoreError when the store has no fit."""
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
