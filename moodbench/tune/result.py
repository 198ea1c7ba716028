"""Searches as read from the store: the request and the trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from moodbench.config import load_catalogue
from moodbench.config.schema import LoraDefaults, TrainDefaults
from moodbench.config.search_space import SearchSpace, recipe_values
from moodbench.errors import StoreError
from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.tune.encoding import Axis, axes_of, axes_seen
from moodbench.tune.objectives import Objective, winner
from moodbench.tune.preregistration import Registered, registered
from moodbench.tune.records import SearchTrial, search_trials
from moodbench.tune.unfinished import with_unfinished


@dataclass(frozen=True)
class Searched:
    """One search of a store."""

    search_id: str
    trials: tuple[SearchTrial, ...]
    """In the order in which they ended; at least one."""
    axes: tuple[Axis, ...]
    """Searched parameters: those of the space, or those that occur in the trials if no request is stored."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Value of each parameter that a configuration does not set."""
    max_texts: int | None = None
    """Number of texts processed in the longest possible training; None if no request is stored."""
    objective: Objective = "quality"
    """Objective by which the winner is chosen."""
    default_fit_id: str | None = None
    """Fit id of the default recipe with the seed of the search; None if no request is stored."""

    @property
    def model(self) -> str:
        """The model whose recipe was searched."""
        return self.trials[0].model

    @property
    def dataset(self) -> str:
        """The dataset that it was trained and validated on."""
        return self.trials[0].dataset

    @property
    def space(self) -> str:
        """Name or file of the search space."""
        return self.trials[0].space

    @property
    def metric(self) -> str:
        """Name of the validation score."""
        return self.trials[0].metric

    @property
    def best(self) -> SearchTrial | None:
        """The winner; None if no trial has a score."""
        return winner(self.trials, self.objective, self.default_fit_id)

    @property
    def title(self) -> str:
        """Model, dataset, space and the first characters of the id."""
        return f"{self.model} · {self.dataset} · {self.space} · {self.search_id[:6]}"

    def num(self, status: str) -> int:
        """Return the number of trials with this status."""
        return sum(t.status == status for t in self.trials)


def searches(store: Store) -> tuple[Searched, ...]:
    """Return the searches of `store`, sorted by model, dataset and space."""
    by_id: dict[str, list[SearchTrial]] = {search_id: [] for search_id in _search_ids(store)}
    for trial in search_trials(store):
        by_id.setdefault(trial.search_id, []).append(trial)
    found = []
    for search_id, recorded in by_id.items():
        asked = _request(store, search_id)
        trials = recorded if asked is None else with_unfinished(store, asked, recorded)
        if trials:
            found.append(searched(trials, asked))
    return tuple(sorted(found, key=lambda s: (s.model, s.dataset, s.space, s.search_id)))


def _search_ids(store: Store) -> list[str]:
    return sorted({key.split("/")[1] for key in store.location.keys("searches")})


def _request(store: Store, search_id: str) -> Registered | None:
    try:
        return registered(store, search_id)
    except StoreError:  # from a newer version or damaged; the trials still hold their configurations
        return None


class Asked(Protocol):
    """The parts of a search request that `searched` reads."""

    @property
    def base(self) -> FitSpec:
        """The recipe that configurations change."""

    @property
    def space(self) -> SearchSpace:
        """The parameters that configurations change."""

    @property
    def max_texts(self) -> int:
        """Number of texts processed in the longest possible training."""

    @property
    def objective(self) -> Objective:
        """Objective by which the winner is chosen."""


def searched(trials: Sequence[SearchTrial], asked: Asked | None = None) -> Searched:
    """Return a search built from its trials and, if known, its request."""
    search_id = trials[0].search_id
    if asked is None or asked.base.lora is None or asked.base.train is None:
        return Searched(search_id, tuple(trials), axes_seen(trials), _catalogued(trials[0].model))
    defaults = recipe_values(asked.base.lora, asked.base.train, asked.base.quantization)
    axes, default = axes_of(asked.space), asked.base.fit_id
    return Searched(search_id, tuple(trials), axes, defaults, asked.max_texts, asked.objective, default)


def _catalogued(model: str) -> Mapping[str, Any]:
    """Return the recipe defaults of `model` in the packaged catalogue, or the general ones if it is unknown."""
    catalogue = load_catalogue()
    entry = catalogue.models.get(model)
    lora, train = catalogue.training.lora, catalogue.training.train
    if entry is not None and entry.family is not None:
        kind = catalogue.families[entry.family].kind
        head = entry.head or ("classification" if kind == "encoder" else "label-words")
        found = catalogue.fine_tuning(entry, kind, head, entry.size.num_params if entry.size else 0)
        lora, train = LoraDefaults.model_validate(found[0]), TrainDefaults.model_validate(found[1])
    return recipe_values(lora, train, entry.quantization if entry else "none")
