"""Recipes of a search that were already evaluated on the test split."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.tune.records import SearchTrial
from moodbench.tune.request import SearchRequest


def tested_before(store: Store, request: SearchRequest, trials: Sequence[SearchTrial], name: str) -> set[str]:
    """Return the fit ids of `trials` whose recipe was evaluated on the test split as the model `name`."""
    fits, evaluations = store.records("fits"), store.records("evaluations")
    if not len(fits) or not len(evaluations):
        return set()
    tested = set(evaluations["fit_id"])
    rows = fits[(fits["model"] == name) & fits["fit_id"].isin(tested)]
    tried, found = {t.fit_id for t in trials}, set[str]()
    for text in rows["spec"]:
        try:
            spec = FitSpec.model_validate_json(text)
        except ValidationError:  # written by another version, so not by a search of this one
            continue
        back = spec.model_copy(update={"model": request.base.model, "seeds": request.base.seeds})
        found |= {back.fit_id} & tried
    return found
