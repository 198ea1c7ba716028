"""Hyper-parameter search spaces as data: distributions, conditions and configurations."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from moodbench.config.schema import (
    Entry,
    LoraDefaults,
    Quantization,
    TrainDefaults,
)
from moodbench.errors import UnknownNameError

ALPHA_OVER_R = "lora.alpha_over_r"
"""Searched in place of lora_alpha: LoRA scales by lora_alpha / r, so the best ratio depends less on r than alpha."""
SECTIONS: dict[str, type[BaseModel]] = {"lora": LoraDefaults, "train": TrainDefaults}
"""First part of a parameter name -> schema of that section."""
_NOT_SEARCHED = {
    "lora.lora_alpha",
    "train.select_by",
    "train.evaluations_per_epoch",
    "train.max_evaluation_steps",
    "train.validation_share",
    "train.min_steps",
    "train.max_steps",
    "train.precision",
}
"""Fields that cannot be searched.

lora_alpha follows from the ratio, and precision from the device. The others would change the score that is compared,
the times of validation, or the length of training by something other than epochs.
"""
KINDS = ("encoder", "decoder")
QUANTIZATION = "quantization"
"""Parameter for the storage of the frozen weights: none, int8 or nf4."""
SEARCHED = tuple(
    sorted(
        {f"{section}.{name}" for section, schema in SECTIONS.items() for name in schema.model_fields} - _NOT_SEARCHED
        | {ALPHA_OVER_R, QUANTIZATION}
    )
)
"""Every parameter that a space may contain."""
MIN_TRAINING_SEED = 100
"""Lowest training seed of a search; lower seeds are reserved for confirmation."""
Value = bool | int | float | str | None
Configuration = dict[str, Any]
"""Parameter -> value; only active parameters."""


class SpaceError(ValueError):
    """An error at one path (sequence of keys) of a search space."""

    def __init__(self, path: tuple[str, ...], reason: str) -> None:
        super().__init__(f"{'.'.join(path)}: {reason}")
        self.path, self.reason = path, reason


class _Distribution(Entry):
    when: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    """Condition: search only if each of these parameters has one of these values; else the model's default is used."""


class _Range(_Distribution):
    @model_validator(mode="after")
    def _in_order(self) -> _Range:
        if not self.low < self.high:  # type: ignore[attr-defined]
            raise ValueError(f"low {self.low} is not below high {self.high}")  # type: ignore[attr-defined]
        return self


class Choice(_Distribution):
    """One of a list of values."""

    distribution: Literal["choice"]
    values: tuple[Value, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _no_repeats(self) -> Choice:
        if len({(isinstance(value, bool), value) for value in self.values}) != len(self.values):
            raise ValueError(f"values {list(self.values)}: one is given twice")
        return self


class Uniform(_Range):
    """A real number with a uniform distribution."""

    distribution: Literal["uniform"]
    low: float = Field(allow_inf_nan=False, strict=True)
    high: float = Field(allow_inf_nan=False, strict=True)


class LogUniform(_Range):
    """A positive real number with a log-uniform distribution."""

    distribution: Literal["log_uniform"]
    low: float = Field(gt=0, allow_inf_nan=False, strict=True)
    high: float = Field(allow_inf_nan=False, strict=True)


class Integer(_Range):
    """An integer from `low` to `high`, both included."""

    distribution: Literal["integer"]
    low: int = Field(strict=True)
    high: int = Field(strict=True)


class PowerOfTwo(_Range):
    """A power of two from `low` to `high`, both included, each with the same probability."""

    distribution: Literal["power_of_two"]
    low: int = Field(ge=1, strict=True)
    high: int = Field(strict=True)

    @model_validator(mode="after")
    def _powers(self) -> PowerOfTwo:
        for name, value in (("low", self.low), ("high", self.high)):
            if value & (value - 1):
                raise ValueError(f"{name} {value} is not a power of two")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        """All powers of two in the range, ascending."""
        return tuple(2**n for n in range(int(math.log2(self.low)), int(math.log2(self.high)) + 1))


Distribution = Annotated[Choice | Uniform | LogUniform | Integer | PowerOfTwo, Field(discriminator="distribution")]


class SearchSpace(Entry):
    """Schema of a file in tune_spaces/."""

    description: str
    parameters: dict[str, Distribution] = Field(min_length=1)
    """Parameter -> distribution.

    A parameter is `lora.FIELD`, `train.FIELD`, lora.alpha_over_r or quantization; see `SEARCHED`.
    """
    families: dict[str, dict[str, Distribution]] = Field(default_factory=dict)
    """Family, or `encoder` or `decoder` -> distributions that replace those above; a family overrides its kind."""
    num_trials: Annotated[int, Field(ge=1, strict=True)] = 16
    """Default number of configurations to try."""
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    """Seed of the searcher: given the same results, it suggests the same configurations."""
    training_seed: Annotated[int, Field(ge=MIN_TRAINING_SEED, lt=2**31, strict=True)] = 1000
    """Seed of every fit of the search; confirmation uses other (lower) seeds, so that lucky seeds do not carry over."""

    @model_validator(mode="after")
    def _known(self) -> SearchSpace:
        for name in self.parameters:
            if name not in SEARCHED:
                raise SpaceError(("parameters", name), str(UnknownNameError("parameter", name, SEARCHED)))
        for family, changed in self.families.items():
            for name in changed:
                if name not in self.parameters:
                    reason = str(UnknownNameError("parameter of this space", name, self.parameters))
                    raise SpaceError(("families", family, name), reason)
        check_conditions(self.parameters, lambda name: ("parameters", name))
        return self

    def for_family(self, *names: str) -> SearchSpace:
        """Return the space for a model whose kind and family are `names`, the most general first.

        Raises: SpaceError if a condition does not hold in the resulting space.
        """
        changed = dict(self.parameters)
        for name in names:
            changed |= self.families.get(name, {})
        check_conditions(changed, lambda parameter: self._place(parameter, names))
        return self.model_copy(update={"parameters": changed, "families": {}})

    def _place(self, parameter: str, names: Sequence[str]) -> tuple[str, ...]:
        """Return the path of the distribution of `parameter` that applies to a model with these `names`."""
        overriding = [name for name in names if parameter in self.families.get(name, {})]
        return ("families", overriding[-1], parameter) if overriding else ("parameters", parameter)

    def without(self, parameter: str, values: Collection[Any]) -> SearchSpace:
        """Return the space without these values of a Choice parameter.

        A parameter with only one value left is removed, and conditions on it are resolved: parameters whose condition
        can no longer be met are removed as well.
        """
        each = self.parameters[parameter]
        assert isinstance(each, Choice)
        remaining = tuple(v for v in each.values if v not in values)
        if len(remaining) > 1:
            return self._with({**self.parameters, parameter: each.model_copy(update={"values": remaining})})
        parameters: dict[str, Any] = {}
        for name, other in self.parameters.items():
            allowed = other.when.get(parameter, remaining)
            if name != parameter and set(remaining) & set(allowed):
                left = {k: v for k, v in other.when.items() if k != parameter}
                parameters[name] = other.model_copy(update={"when": left})
        return self._with(parameters)

    def _with(self, parameters: Mapping[str, Any]) -> SearchSpace:
        return self.model_copy(update={"parameters": dict(parameters)})

    def active(self, configuration: Mapping[str, Any]) -> Configuration:
        """Return `configuration` without the parameters whose condition is not met."""
        return {
            name: configuration[name]
            for name, distribution in self.parameters.items()
            if name in configuration and all(configuration.get(k) in v for k, v in distribution.when.items())
        }


def check_conditions(parameters: Mapping[str, Any], place: Callable[[str], tuple[str, ...]]) -> None:
    """Raise SpaceError for a condition on an unknown or conditional parameter, or on values that never occur.

    `place` returns the path of a parameter. The error of a condition with impossible values is reported at the
    condition, or at the other parameter if only that one is overridden under `families`.
    """
    for name, distribution in parameters.items():
        for other, allowed in distribution.when.items():
            here = (*place(name), "when", other)
            if other not in parameters or other == name:
                possible = ", ".join(sorted(set(parameters) - {name})) or "none"
                raise SpaceError(here, f"{other!r} is not another parameter of this space; allowed are {possible}")
            if parameters[other].when:
                raise SpaceError(here, f"{other!r} is itself conditional; allowed are parameters without `when`")
            possible_values = values_of(parameters[other])
            if possible_values is None:
                raise SpaceError(here, f"{other!r} has no list of values; allowed are choice, integer and power_of_two")
            strange = [v for v in allowed if v not in possible_values]
            if strange or not allowed:
                changed = place(other)
                where = changed if changed[0] == "families" and place(name)[0] != "families" else here
                raise SpaceError(
                    where,
                    f"{name}.when: {other} is never {strange or 'one of an empty list'}; "
                    f"allowed are {list(possible_values)}",
                )


def values_of(distribution: Any) -> tuple[Any, ...] | None:
    """Return all values of a discrete distribution, or None for a continuous one."""
    if isinstance(distribution, Choice | PowerOfTwo):
        return distribution.values
    if isinstance(distribution, Integer):
        return tuple(range(distribution.low, distribution.high + 1))
    return None


def ends_of(distribution: Any) -> tuple[Any, ...]:
    """Return the values to validate: all values of a choice, both ends of a range."""
    if isinstance(distribution, Choice):
        return distribution.values
    return (distribution.low, distribution.high)


def overrides(configuration: Mapping[str, Any], lora: LoraDefaults) -> dict[str, dict[str, Any]]:
    """Return the `lora` and `train` fields that `configuration` changes.

    If it changes r, lora_alpha is scaled to keep the ratio lora_alpha / r of `lora`, unless it contains a ratio.
    """
    changed: dict[str, dict[str, Any]] = {"lora": {}, "train": {}}
    for name, value in configuration.items():
        if name not in (ALPHA_OVER_R, QUANTIZATION):
            section, _, field = name.partition(".")
            changed[section][field] = value
    rank = changed["lora"].get("r", lora.r)
    if rank != lora.r or ALPHA_OVER_R in configuration:
        changed["lora"]["lora_alpha"] = rank * configuration.get(ALPHA_OVER_R, lora.lora_alpha / lora.r)
    return changed


def recipe_values(lora: LoraDefaults, train: TrainDefaults, quantization: Quantization = "none") -> dict[str, Any]:
    """Return parameter -> value in a recipe; contains every parameter in `SEARCHED`."""
    values = {f"lora.{k}": v for k, v in lora.model_dump().items()} | {
        f"train.{k}": v for k, v in train.model_dump().items()
    }
    return values | {ALPHA_OVER_R: lora.lora_alpha / lora.r, QUANTIZATION: quantization}


def inside(distribution: Any, value: Any) -> bool:
    """Return whether `value` is in the support of `distribution`."""
    possible = values_of(distribution)
    if possible is not None:
        return value in possible
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def default_configuration(
    space: SearchSpace, lora: LoraDefaults, train: TrainDefaults, quantization: Quantization = "none"
) -> Configuration | None:
    """Return the default recipe as a configuration of `space`, to be tried first; None if it is outside the space."""
    values = recipe_values(lora, train, quantization)
    point = {name: values[name] for name in space.parameters}
    for name, distribution in space.parameters.items():
        if name in space.active(point) and not inside(distribution, point[name]):
            return None
    return space.active(point)
