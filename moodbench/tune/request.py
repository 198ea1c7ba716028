"""A search request: a model's recipe on a dataset, what may change, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moodbench.config.schema import LoraDefaults, NumberFormat, Quantization, TrainDefaults
from moodbench.config.search_space import QUANTIZATION, Configuration, SearchSpace, ends_of, overrides
from moodbench.errors import SpecError
from moodbench.hardware import Device
from moodbench.spec import FitSpec
from moodbench.spec.canonical import content_id
from moodbench.spec.fit_schedule import steps_of
from moodbench.tune.objectives import Objective
from moodbench.tune.optuna_space import grid_counts
from moodbench.tune.schedulers import SchedulerName

SearcherName = Literal["optuna", "random", "grid"]
SEARCH_CODE_VERSION = 3
"""Raised by hand when earlier searches must not be resumed."""


@dataclass(frozen=True)
class SearchRequest:
    """One search: a model's recipe on a dataset, what may change, and how much it may cost."""

    base: FitSpec
    """The default recipe with the search's own seeds; configurations change lora, train and quantization."""
    num_train: int
    """Number of texts per epoch: the training split after subsampling, with augmented copies."""
    targets: Callable[[LoraDefaults], tuple[str, ...]]
    """Function from a LoRA recipe to the names of the modules that it adapts in this model."""
    formats: Mapping[Quantization, NumberFormat]
    """Number format of the frozen weights for each quantization in the space."""
    space_name: str
    space: SearchSpace
    searcher: SearcherName
    scheduler: SchedulerName
    num_trials: int
    budget_s: float | None
    """Seconds of searching, without the confirmation; None for no limit."""
    device: Device
    chance: float | None = None
    """Chance level, the best validation score of answers given without reading the texts; None for nll."""
    settled: Mapping[str, Any] = field(default_factory=dict)
    """Parameter -> value, where this device supports only one value of the space, and that is not the model's own."""
    warm_start: bool = True
    """Whether the best configurations of earlier searches are tried first."""
    warm: tuple[Configuration, ...] = ()
    """These configurations, as they were registered."""
    together: int = 1
    """Number of configurations per trial: they train in one process and share passes through the base model."""
    objective: Objective = "quality"
    """Objective that the searcher optimises and by which the winner is chosen."""

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
                **({} if self.warm_start else {"warm_start": False}),
                **({} if self.objective == "quality" else {"objective": self.objective}),
            },
        )

    def fit(self, configuration: Mapping[str, Any]) -> FitSpec:
        """Return the fit of a configuration."""
        return fit_of(self.base, self.space, configuration, self.targets, self.formats)

    def is_default(self, fit_id: str) -> bool:
        """Return whether a fit of the search is the model's default recipe, which has no `settled` parameters."""
        return fit_id == self.base.fit_id and not self.settled

    @property
    def num_wanted(self) -> int:
        """Number of configurations after which the search ends: all of a grid, otherwise the requested number."""
        return self.num_grid if self.searcher == "grid" else self.num_trials

    @property
    def num_grid(self) -> int:
        """Number of grid points."""
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


def fit_of(
    base: FitSpec,
    space: SearchSpace,
    configuration: Mapping[str, Any],
    targets: Callable[[LoraDefaults], tuple[str, ...]],
    formats: Mapping[Quantization, NumberFormat],
) -> FitSpec:
    """Return the recipe `base` with the changes of `configuration`."""
    assert base.lora is not None and base.train is not None
    changed = overrides(space.active(configuration), base.lora)
    lora = LoraDefaults.model_validate(base.lora.model_dump() | changed["lora"])
    train = TrainDefaults.model_validate(base.train.model_dump() | changed["train"])
    changes: dict[str, Any] = {"lora": lora, "train": train, "target_modules": targets(lora)}
    if QUANTIZATION in configuration:
        stored = configuration[QUANTIZATION]
        changes |= {"quantization": stored, "dtype": formats[stored]}
    return base.model_copy(update=changes)


def budget_seconds(text: str, price_per_hour: float | None) -> float:
    """Return the seconds of a budget such as 90s, 30m, 2h or $5.

    Raises:
        SpecError: If `text` is not a budget above 0, or is in dollars without a known price.
    """
    allowed = "allowed are a number with s, m or h (30m), or dollars ($5) where the machine's price is known"
    try:
        if text.startswith("$"):
            if price_per_hour is None:
                raise SpecError(f"--budget {text}: no price per hour is known for this machine; give --price-per-hour")
            seconds = float(text[1:]) / price_per_hour * 3600
        else:
            seconds = float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1:]]
    except (KeyError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"--budget {text}: not understood; {allowed}") from error
    if not 0 < seconds < float("inf"):
        raise SpecError(f"--budget {text}: must be above 0; {allowed}")
    return seconds
