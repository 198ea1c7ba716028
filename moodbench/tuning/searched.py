"""A search as the store knows it: what was asked, and what was tried."""

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
from moodbench.tuning.axes import Axis, axes_of, axes_seen
from moodbench.tuning.objectives import Objective, winner
from moodbench.tuning.records import SearchTrial, search_trials
from moodbench.tuning.registered import Registered, registered
from moodbench.tuning.unfinished import with_unfinished


@dataclass(frozen=True)
class Searched:
    """One search of a store."""

    search_id: str
    trials: tuple[SearchTrial, ...]
    """In the order in which they ended; at least one."""
    axes: tuple[Axis, ...]
    """Its parameters: those of its space, or those that the trials show where no request is kept."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What each parameter is where a configuration does not set it."""
    max_texts: int | None = None
    """Texts that the longest possible training goes through; None where no request is kept."""
    objective: Objective = "quality"
    """What the pick is chosen by."""
    default_fit_id: str | None = None
    """The fit of the default recipe with the seed of the search; None where no request is kept."""

    @property
    def model(self) -> str:
        """The contender whose recipe was searched."""
        return self.trials[0].model

    @property
    def dataset(self) -> str:
        """The data set that it was trained and judged on."""
        return self.trials[0].dataset

    @property
    def space(self) -> str:
        """The name or file of the search space."""
        return self.trials[0].space

    @property
    def metric(self) -> str:
        """The validation score."""
        return self.trials[0].metric

    @property
    def best(self) -> SearchTrial | None:
        """The pick; None when no trial has a score."""
        return winner(self.trials, self.objective, self.default_fit_id)

    @property
    def title(self) -> str:
        """Model, data set, space and the beginning of the id."""
        return f"{self.model} · {self.dataset} · {self.space} · {self.search_id[:6]}"

    def num(self, status: str) -> int:
        """Trials that ended so."""
        return sum(t.status == status for t in self.trials)


def searches(store: Store) -> tuple[Searched, ...]:
    """The searches of `store`, those of one model and data set together."""
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
    except StoreError:  # of a newer version or damaged; the trials still tell their configurations
        return None


class Asked(Protocol):
    """What a request says of a search."""

    @property
    def base(self) -> FitSpec:
        """The recipe that configurations change."""

    @property
    def space(self) -> SearchSpace:
        """What they change."""

    @property
    def max_texts(self) -> int:
        """Texts that the longest possible training goes through."""

    @property
    def objective(self) -> Objective:
        """What the pick is chosen by."""


def searched(trials: Sequence[SearchTrial], asked: Asked | None = None) -> Searched:
    """One search from its trials and, where it is known, its request."""
    search_id = trials[0].search_id
    if asked is None or asked.base.lora is None or asked.base.train is None:
        return Searched(search_id, tuple(trials), axes_seen(trials), _catalogued(trials[0].model))
    defaults = recipe_values(asked.base.lora, asked.base.train, asked.base.quantization)
    axes, default = axes_of(asked.space), asked.base.fit_id
    return Searched(search_id, tuple(trials), axes, defaults, asked.max_texts, asked.objective, default)


def _catalogued(model: str) -> Mapping[str, Any]:
    """The defaults that the packaged catalogue has for `model`, known or not."""
    catalogue = load_catalogue()
    entry = catalogue.models.get(model)
    lora, train = catalogue.training.lora, catalogue.training.train
    if entry is not None and entry.family is not None:
        kind = catalogue.families[entry.family].kind
        head = entry.head or ("classification" if kind == "encoder" else "label-words")
        found = catalogue.fine_tuning(entry, kind, head, entry.size.num_params if entry.size else 0)
        lora, train = LoraDefaults.model_validate(found[0]), TrainDefaults.model_validate(found[1])
    return recipe_values(lora, train, entry.quantization if entry else "none")
