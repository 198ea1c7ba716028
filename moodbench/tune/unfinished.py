"""Configurations that a search started and that have no record yet, with their progress so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.tune.records import SearchTrial, sign
from moodbench.tune.underway import proposed, spent


class Begun(Protocol):
    """The parts of a search request that unfinished trials need."""

    @property
    def search_id(self) -> str:
        """Id of the search."""

    @property
    def base(self) -> FitSpec:
        """The recipe that configurations change."""

    @property
    def space_name(self) -> str:
        """Name or file of the space."""

    @property
    def metric(self) -> str:
        """Name of the validation score."""


def with_unfinished(store: Store, search: Begun, recorded: Sequence[SearchTrial]) -> list[SearchTrial]:
    """Return the `recorded` trials of `search`, followed by the started ones without a record but with a score.

    The latter are in the order in which they started.
    """
    known = {trial.fit_id for trial in recorded}
    all_spent, found = spent(store, search.search_id), list(recorded)
    for fit_id, configuration in proposed(store, search.search_id).items():
        curve = all_spent.curves.get(fit_id, ())
        if fit_id in known or not curve:
            continue
        direction = sign(search.metric)
        found.append(
            SearchTrial(
                search_id=search.search_id,
                fit_id=fit_id,
                model=search.base.model.name,
                dataset=search.base.dataset.name,
                space=search.space_name,
                configuration=configuration,
                status="unfinished",
                metric=search.metric,
                score=direction * max(direction * score for _, score in curve),
                texts_trained=curve[-1][0],
                curve=curve,
                train_time_s=all_spent.open[fit_id][1],
                elapsed_s=all_spent.elapsed_s,
            )
        )
    return found
