"""One search as it was asked for: a contender's recipe on a data set, what may change, and what it may cost."""

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
from moodbench.tuning.objectives import Objective
from moodbench.tuning.optuna_space import grid_counts
from moodbench.tuning.schedulers import SchedulerName

SearcherName = Literal["optuna", "random", "grid"]
SEARCH_CODE_VERSION = 3
"""Raised by hand when earlier searches must not be continued."""


@dataclass(frozen=True)
class SearchRequest:
    """One search: a contender's recipe on a data set, what may change, and how much it may cost."""

    base: FitSpec
    """The recipe with its defaults and the search's own seeds; only lora and train are changed."""
    num_train: int
    """Texts that an epoch goes through: the training split after sub-sampling, with changed copies."""
    targets: Callable[[LoraDefaults], tuple[str, ...]]
    """The module names that a LoRA recipe adapts in this model."""
    formats: Mapping[Quantization, NumberFormat]
    """The number format of the frozen weights, by how they are stored; for the ways that the space holds."""
    space_name: str
    space: SearchSpace
    searcher: SearcherName
    scheduler: SchedulerName
    num_trials: int
    budget_s: float | None
    """Seconds of searching; confirmation comes on top."""
    device: Device
    chance: float | None = None
    """The best validation score of answers that were given without reading; None of a metric that is no share of right answers."""
    settled: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the space searches, but of whose values this device has only one, where that is not the model's own."""
    warm_start: bool = True
    """Whether what earlier searches found is tried first."""
    warm: tuple[Configuration, ...] = ()
    """Those points, as they were registered."""
    together: int = 1
    """Configurations that are trained in one process on one slot, sharing passes through the base model."""
    objective: Objective = "quality"
    """What the searcher goes for and the pick is chosen by."""

    @property
    def metric(self) -> str:
        """The validation score that is searched for."""
        assert self.base.train is not None
        return self.base.train.select_by

    @property
    def search_id(self) -> str:
        """Id of the search: everything that sets what it proposes and how it judges, but not how long it goes on."""
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
        """The fit that a configuration stands for."""
        return fit_of(self.base, self.space, configuration, self.targets, self.formats)

    def is_default(self, fit_id: str) -> bool:
        """Whether that fit of the search is the model's default recipe, which what is `settled` is not part of."""
        return fit_id == self.base.fit_id and not self.settled

    @property
    def num_wanted(self) -> int:
        """Configurations after which the search ends: of a grid all, else as many as were asked for."""
        return self.num_grid if self.searcher == "grid" else self.num_trials

    @property
    def num_grid(self) -> int:
        """Points of the grid."""
        return sum(grid_counts(self.space).values())

    @property
    def grid_texts(self) -> int:
        """Texts that training every point of the grid to its own end would go through."""
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
        """Texts that the longest possible training goes through."""
        batch_sizes = self._values("effective_batch_size")
        return max(
            self._num_texts({"epochs": self.longest_epochs, "effective_batch_size": size}) for size in batch_sizes
        )

    def _num_texts(self, changes: Mapping[str, Any]) -> int:
        """Return the texts that a training of the recipe with these changes goes through."""
        assert self.base.train is not None
        return steps_of(self.base.train.model_copy(update=changes), self.num_train).num_texts

    def _values(self, name: str) -> tuple[Any, ...]:
        """Return the recipe's value of a field of `train`, and the ends of what the space has for it."""
        searched = self.space.parameters.get(f"train.{name}")
        return (getattr(self.base.train, name), *(() if searched is None else ends_of(searched)))


def fit_of(
    base: FitSpec,
    space: SearchSpace,
    configuration: Mapping[str, Any],
    targets: Callable[[LoraDefaults], tuple[str, ...]],
    formats: Mapping[Quantization, NumberFormat],
) -> FitSpec:
    """The recipe `base` with what `configuration` changes."""
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
    """The seconds that a budget such as 90s, 30m, 2h or $5 buys; SpecError says what is allowed."""
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
