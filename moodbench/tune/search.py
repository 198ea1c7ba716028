"""A search: what may change in a model's recipe on a dataset, what the search may cost, and its preregistration.

The registration is searches/ID/request.json, written once, before the search begins, and never changed. It fixes the
seeds of the confirmation and the warm start: the best configurations of earlier searches, tried first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from moodbench.config.schema import Family, LoraDefaults, NumberFormat, Quantization, TrainDefaults
from moodbench.config.search_space import (
    QUANTIZATION,
    Configuration,
    SearchSpace,
    ends_of,
    inside,
    overrides,
    recipe_values,
)
from moodbench.errors import StoreError, UsageError
from moodbench.hardware import Device
from moodbench.spec import FitSpec
from moodbench.spec.fit_schedule import steps_of
from moodbench.spec.resolved import content_id
from moodbench.store import Store
from moodbench.tune.encoding import grid_counts
from moodbench.tune.trials import Curve, SearchTrial, search_trials, sign

SchedulerName = Literal["asha", "hyperband", "median", "none"]
SearcherName = Literal["optuna", "random", "grid"]
Objective = Literal["quality", "memory"]
SEARCH_CODE_VERSION = 4
"""Raised by hand when earlier searches must not be resumed."""
REQUEST = "request.json"
DEFAULT_NUM_SEEDS = 3
NUM_WARM_POINTS = 3


class WarmPoint(BaseModel):
    """A configuration of an earlier search that a new search tries first, with its source."""

    model_config = ConfigDict(frozen=True)

    configuration: dict[str, Any]
    """As a point of the new space."""
    search_id: str
    fit_id: str
    dataset: str
    metric: str
    score: float


class Search(BaseModel):
    """One search, as a command requests it, as its `request.json` registers it, and as its trials receive it."""

    model_config = ConfigDict(frozen=True)

    base: FitSpec
    """The default recipe with the search's own seeds; configurations change lora, train and quantization."""
    num_train: int
    """Number of texts per epoch: the training split after subsampling, with augmented copies."""
    family: Family
    """Architecture of the model, with the names of the modules that LoRA adapts."""
    formats: dict[Quantization, NumberFormat]
    """Number format of the frozen weights for each quantization in the space."""
    space_name: str
    space: SearchSpace
    """The space for this model on this device."""
    searcher: SearcherName
    scheduler: SchedulerName
    num_trials: int
    budget_s: float | None
    """Seconds of searching, without the confirmation; None for no limit."""
    device: Device
    chance: float | None = None
    """Chance level, the best validation score of predictions made without reading the texts; None for nll."""
    fixed: dict[str, Any] = {}
    """Parameter -> value, where this device supports only one value of the space, and that is not the model's own."""
    warm_start: bool = True
    """Whether the best configurations of earlier searches are tried first."""
    objective: Objective = "quality"
    """Objective that the searcher optimises and by which the winner is chosen."""
    warm_points: tuple[WarmPoint, ...] = ()
    """Configurations of earlier searches in the store that are tried first; set by the registration."""
    confirmation_seeds: tuple[int, ...] = ()
    """Seeds with which the winner and the default recipe are retrained; set by the registration."""

    @property
    def metric(self) -> str:
        """Name of the validation score that the search optimises."""
        assert self.base.train is not None
        return self.base.train.select_by

    @property
    def search_id(self) -> str:
        """Id of the search: a hash of what decides its proposals and how it compares them, but not of its length."""
        return content_id(
            "search",
            {
                "config_id": self.base.config_id,
                "seeds": self.base.seeds.model_dump(),
                "space": self.space.model_dump(mode="json", exclude={"description", "num_trials", "families"}),
                "searcher": self.searcher,
                "scheduler": self.scheduler,
                "code_version": SEARCH_CODE_VERSION,
                "warm_start": self.warm_start,
                "objective": self.objective,
            },
        )

    def fit(self, configuration: Mapping[str, Any]) -> FitSpec:
        """Return the fit of a configuration: the recipe with its changes."""
        assert self.base.lora is not None and self.base.train is not None
        changed = overrides(self.space.active(configuration), self.base.lora)
        lora = LoraDefaults.model_validate(self.base.lora.model_dump() | changed["lora"])
        train = TrainDefaults.model_validate(self.base.train.model_dump() | changed["train"])
        modules = self.family.targets(lora.target_modules)
        changes: dict[str, Any] = {"lora": lora, "train": train, "target_modules": modules}
        if QUANTIZATION in configuration:
            stored = configuration[QUANTIZATION]
            changes |= {"quantization": stored, "dtype": self.formats[stored]}
        return self.base.model_copy(update=changes)

    def trial(self, fit_id: str, configuration: Configuration, curve: Curve, **outcome: Any) -> SearchTrial:
        """Return the trial of a configuration with its learning curve; `outcome` holds the remaining fields."""
        direction = sign(self.metric)
        return SearchTrial(
            search_id=self.search_id,
            fit_id=fit_id,
            model=self.base.model.name,
            dataset=self.base.dataset.name,
            space=self.space_name,
            configuration=configuration,
            metric=self.metric,
            score=direction * max(direction * score for _, score in curve) if curve else None,
            texts_trained=curve[-1][0] if curve else 0,
            curve=curve,
            **outcome,
        )

    def is_default(self, fit_id: str) -> bool:
        """Return whether a fit of the search is the model's default recipe, which has no `fixed` parameters."""
        return fit_id == self.base.fit_id and not self.fixed

    @property
    def num_wanted(self) -> int:
        """Number of configurations after which the search ends: all of a grid, otherwise the requested number."""
        return self.num_grid if self.searcher == "grid" else self.num_trials

    @property
    def num_grid(self) -> int:
        """Number of points of the full grid: every value of lists, four values per range."""
        return sum(grid_counts(self.space).values())

    @property
    def grid_texts(self) -> int:
        """Number of texts processed if every grid point is trained to its end."""
        assert self.base.train is not None
        own = self.base.train.epochs
        return sum(
            num * self._num_texts({"epochs": own if epochs is None else epochs})
            for epochs, num in grid_counts(self.space).items()
        )

    @property
    def longest_epochs(self) -> float:
        """Epochs of the longest possible training."""
        return float(max(self._values("epochs")))

    @property
    def max_texts(self) -> int:
        """Number of texts processed in the longest possible training."""
        batch_sizes = self._values("effective_batch_size")
        return max(
            self._num_texts({"epochs": self.longest_epochs, "effective_batch_size": size}) for size in batch_sizes
        )

    def _num_texts(self, changes: Mapping[str, Any]) -> int:
        """Return the number of texts processed in a training of the recipe with these changes."""
        assert self.base.train is not None
        return steps_of(self.base.train.model_copy(update=changes), self.num_train).num_texts

    def _values(self, name: str) -> tuple[Any, ...]:
        """Return the recipe's value of a field of `train`, followed by the ends of its range in the space."""
        searched = self.space.parameters.get(f"train.{name}")
        return (getattr(self.base.train, name), *(() if searched is None else ends_of(searched)))


def register(store: Store, search: Search, num_seeds: int) -> Search:
    """Register `search` unless it is, and return it with its registered warm start and confirmation seeds.

    `num_seeds` 0 postpones the confirmation and registers DEFAULT_NUM_SEEDS seeds.

    Raises:
        UsageError: If `num_seeds` differs from the registered number: choosing it after the scores are known would be a
            second try.
        StoreError: If the registration is damaged or from another version.
    """
    known = registered(store, search.search_id)
    if known is None:
        warm = warm_points(store, search) if search.warm_start and not search_trials(store, search.search_id) else ()
        seeds = tuple(range(num_seeds or DEFAULT_NUM_SEEDS))
        request = search.model_copy(update={"warm_points": warm, "confirmation_seeds": seeds})
        with store.attempt() as attempt:
            path = Path(attempt.folder) / REQUEST
            path.write_text(request.model_dump_json(indent=1), "utf-8")
            store.location.create(path, f"searches/{search.search_id}/{REQUEST}")
        known = registered(store, search.search_id)
        assert known is not None
    num_known = len(known.confirmation_seeds)
    if num_seeds not in (0, num_known):
        raise UsageError(
            f"--seeds {num_seeds}: this search was registered with the {num_known} seeds "
            f"{', '.join(map(str, known.confirmation_seeds))} before it began; allowed are --seeds "
            f"{num_known}, and 0 to leave the confirmation out"
        )
    return search.model_copy(update={"warm_points": known.warm_points, "confirmation_seeds": known.confirmation_seeds})


def registered(store: Store, search_id: str) -> Search | None:
    """Return the search as its first command registered it; None if there is no registration.

    Raises: StoreError if the file is damaged or from another version.
    """
    key = f"searches/{search_id}/{REQUEST}"
    if key not in store.location.keys(f"searches/{search_id}"):
        return None
    try:
        return Search.model_validate_json(store.location.local(key).read_text("utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"{store.uri}/{key}: {where}: {first['msg']}; the file is no request of a search, or of another version. "
            "Move it away, and the next command registers the search anew"
        ) from error


def warm_points(store: Store, search: Search) -> tuple[WarmPoint, ...]:
    """Return the best finished configurations of earlier searches of the model inside the new space, at most three.

    Each search contributes its best before any contributes its second best, because scores of two searches cannot be
    compared; within a round, searches on the same dataset come first. Empty for a grid, which has its own points.
    """
    base = search.base
    if search.searcher == "grid" or base.lora is None or base.train is None:
        return ()
    defaults = recipe_values(base.lora, base.train, base.quantization)
    by_search: dict[str, list[WarmPoint]] = {}
    for trial in search_trials(store):
        if trial.model != base.model.name or trial.search_id == search.search_id or trial.status != "finished":
            continue
        point = point_in(search.space, trial.configuration, defaults)
        if point is not None and trial.score is not None:
            source = {name: getattr(trial, name) for name in ("search_id", "fit_id", "dataset", "metric", "score")}
            by_search.setdefault(trial.search_id, []).append(WarmPoint(configuration=point, **source))
    ranked: list[tuple[int, bool, str, WarmPoint]] = []
    for search_id, found in by_search.items():
        best_first = sorted(found, key=lambda each: (-sign(each.metric) * each.score, each.fit_id))
        ranked += [(rank, p.dataset != base.dataset.name, search_id, p) for rank, p in enumerate(best_first)]
    points: dict[str, WarmPoint] = {}
    for *_, warm in sorted(ranked, key=lambda each: each[:3]):
        points.setdefault(search.fit(warm.configuration).fit_id, warm)
    return tuple(points.values())[:NUM_WARM_POINTS]


def point_in(space: SearchSpace, configuration: Mapping[str, Any], defaults: Mapping[str, Any]) -> Configuration | None:
    """Return `configuration` as a point of `space`, or None if it lies outside.

    Parameters that it does not set have their value in `defaults`. Parameters that it sets but `space` does not search
    must equal their value there.
    """
    if any(defaults.get(name) != value for name, value in configuration.items() if name not in space.parameters):
        return None
    point = space.active({name: configuration.get(name, defaults[name]) for name in space.parameters})
    return point if all(inside(space.parameters[name], value) for name, value in point.items()) else None
