"""The model of a search: what may change in a model's recipe on a dataset, and what the search may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from moodbench.config.schema import Family, LoraDefaults, NumberFormat, Quantization, TrainDefaults
from moodbench.config.search_space import QUANTIZATION, Configuration, SearchSpace, ends_of, overrides
from moodbench.hardware import Device
from moodbench.spec import FitSpec
from moodbench.spec.canonical import content_id
from moodbench.spec.fit_schedule import steps_of
from moodbench.tune.encoding import grid_counts
from moodbench.tune.schedulers import SchedulerName
from moodbench.tune.trials import Curve, SearchTrial, sign

SearcherName = Literal["optuna", "random", "grid"]
Objective = Literal["quality", "memory"]
SEARCH_CODE_VERSION = 4
"""Raised by hand when earlier searches must not be resumed."""


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
    together: int = 1
    """Number of configurations per trial: they train in one process and share passes through the base model."""
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
