"""What a hyper-parameter search may try: spaces as data, each value checked as a fit would check it."""

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
"""LoRA scales its update by lora_alpha / r, so the ratio is searched: the best alpha moves with the rank, the ratio less."""
SECTIONS: dict[str, type[BaseModel]] = {"lora": LoraDefaults, "train": TrainDefaults}
"""First part of a parameter's name -> the schema of its section."""
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
"""Alpha follows from the ratio; the precision from the device; the others would change what is compared or when, or how long
a configuration is trained other than by its epochs."""
KINDS = ("encoder", "decoder")
QUANTIZATION = "quantization"
"""How the frozen weights are stored: none, int8 or nf4."""
SEARCHED = tuple(
    sorted(
        {f"{section}.{name}" for section, schema in SECTIONS.items() for name in schema.model_fields} - _NOT_SEARCHED
        | {ALPHA_OVER_R, QUANTIZATION}
    )
)
"""Every parameter that a space may hold."""
MIN_TRAINING_SEED = 100
"""Seeds below are those of confirmations."""
Value = bool | int | float | str | None
Configuration = dict[str, Any]
"""Parameter -> value, the inactive ones left out."""


class Misplaced(ValueError):
    """Something wrong at one place of a space."""

    def __init__(self, path: tuple[str, ...], reason: str) -> None:
        super().__init__(f"{'.'.join(path)}: {reason}")
        self.path, self.reason = path, reason


class _Distribution(Entry):
    when: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    """Searched only where each of these parameters has one of these values; otherwise the model's default holds."""


class _Range(_Distribution):
    @model_validator(mode="after")
    def _in_order(self) -> _Range:
        if not self.low < self.high:  # type: ignore[attr-defined]
            raise ValueError(f"low {self.low} is not below high {self.high}")  # type: ignore[attr-defined]
        return self


class Choice(_Distribution):
    """One of some values."""

    distribution: Literal["choice"]
    values: tuple[Value, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _no_repeats(self) -> Choice:
        if len({(isinstance(value, bool), value) for value in self.values}) != len(self.values):
            raise ValueError(f"values {list(self.values)}: one is given twice")
        return self


class Uniform(_Range):
    """A real number, every value as likely."""

    distribution: Literal["uniform"]
    low: float = Field(allow_inf_nan=False, strict=True)
    high: float = Field(allow_inf_nan=False, strict=True)


class LogUniform(_Range):
    """A positive real number, every order of magnitude as likely."""

    distribution: Literal["log_uniform"]
    low: float = Field(gt=0, allow_inf_nan=False, strict=True)
    high: float = Field(allow_inf_nan=False, strict=True)


class Integer(_Range):
    """A whole number."""

    distribution: Literal["integer"]
    low: int = Field(strict=True)
    high: int = Field(strict=True)


class PowerOfTwo(_Range):
    """A power of two, each as likely."""

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
        """All of them, in order."""
        return tuple(2**n for n in range(int(math.log2(self.low)), int(math.log2(self.high)) + 1))


Distribution = Annotated[Choice | Uniform | LogUniform | Integer | PowerOfTwo, Field(discriminator="distribution")]


class SearchSpace(Entry):
    """One file of tune_spaces/."""

    description: str
    parameters: dict[str, Distribution] = Field(min_length=1)
    """`lora.` or `train.` and a field of that section, lora.alpha_over_r or quantization -> how it is drawn."""
    families: dict[str, dict[str, Distribution]] = Field(default_factory=dict)
    """Family, or `encoder` or `decoder` -> parameters that are drawn otherwise there; a family goes before its kind."""
    num_trials: Annotated[int, Field(ge=1, strict=True)] = 16
    """Configurations tried unless the request says otherwise."""
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    """Of the search: the same seed proposes the same configurations for the same results."""
    training_seed: Annotated[int, Field(ge=MIN_TRAINING_SEED, lt=2**31, strict=True)] = 1000
    """Of every fit of the search; confirmation uses lower seeds, so that luck is not carried over."""

    @model_validator(mode="after")
    def _known(self) -> SearchSpace:
        for name in self.parameters:
            if name not in SEARCHED:
                raise Misplaced(("parameters", name), str(UnknownNameError("parameter", name, SEARCHED)))
        for family, changed in self.families.items():
            for name in changed:
                if name not in self.parameters:
                    reason = str(UnknownNameError("parameter of this space", name, self.parameters))
                    raise Misplaced(("families", family, name), reason)
        check_conditions(self.parameters, lambda name: ("parameters", name))
        return self

    def for_family(self, *names: str) -> SearchSpace:
        """The space as it is for a model of these names, most general first: its kind, then its family."""
        changed = dict(self.parameters)
        for name in names:
            changed |= self.families.get(name, {})
        check_conditions(changed, lambda parameter: self._place(parameter, names))
        return self.model_copy(update={"parameters": changed, "families": {}})

    def _place(self, parameter: str, names: Sequence[str]) -> tuple[str, ...]:
        """Where what holds for a model of these names is said of `parameter`."""
        said = [name for name in names if parameter in self.families.get(name, {})]
        return ("families", said[-1], parameter) if said else ("parameters", parameter)

    def without(self, parameter: str, values: Collection[Any]) -> SearchSpace:
        """The space without these values of a choice; a parameter with one value left is not searched any more."""
        each = self.parameters[parameter]
        assert isinstance(each, Choice)
        kept = tuple(v for v in each.values if v not in values)
        if len(kept) > 1:
            return self._with({**self.parameters, parameter: each.model_copy(update={"values": kept})})
        parameters: dict[str, Any] = {}
        for name, other in self.parameters.items():
            allowed = other.when.get(parameter, kept)
            if name != parameter and set(kept) & set(allowed):
                left = {k: v for k, v in other.when.items() if k != parameter}
                parameters[name] = other.model_copy(update={"when": left})
        return self._with(parameters)

    def _with(self, parameters: Mapping[str, Any]) -> SearchSpace:
        return self.model_copy(update={"parameters": dict(parameters)})

    def active(self, configuration: Mapping[str, Any]) -> Configuration:
        """`configuration` without the parameters whose condition is not met."""
        return {
            name: configuration[name]
            for name, distribution in self.parameters.items()
            if name in configuration and all(configuration.get(k) in v for k, v in distribution.when.items())
        }


def check_conditions(parameters: Mapping[str, Any], place: Callable[[str], tuple[str, ...]]) -> None:
    """Nothing; Misplaced for a condition that is about no other parameter, or that is never met.

    `place` says where a parameter stands: a condition that is never met is wrong where the last of the two stands.
    """
    for name, distribution in parameters.items():
        for other, allowed in distribution.when.items():
            here = (*place(name), "when", other)
            if other not in parameters or other == name:
                possible = ", ".join(sorted(set(parameters) - {name})) or "none"
                raise Misplaced(here, f"{other!r} is no other parameter of this space; allowed are {possible}")
            if parameters[other].when:
                raise Misplaced(here, f"{other!r} is itself conditional; allowed are parameters without `when`")
            possible_values = values_of(parameters[other])
            if possible_values is None:
                raise Misplaced(here, f"{other!r} has no list of values; allowed are choice, integer and power_of_two")
            strange = [v for v in allowed if v not in possible_values]
            if strange or not allowed:
                changed = place(other)
                where = changed if changed[0] == "families" and place(name)[0] != "families" else here
                raise Misplaced(
                    where,
                    f"{name}.when: {other} is never {strange or 'one of no values'}; allowed are {list(possible_values)}",
                )


def values_of(distribution: Any) -> tuple[Any, ...] | None:
    """The finitely many values of a distribution, or None."""
    if isinstance(distribution, Choice | PowerOfTwo):
        return distribution.values
    if isinstance(distribution, Integer):
        return tuple(range(distribution.low, distribution.high + 1))
    return None


def ends_of(distribution: Any) -> tuple[Any, ...]:
    """The values that show whether all are allowed: every one of a list, both ends of a range."""
    if isinstance(distribution, Choice):
        return distribution.values
    return (distribution.low, distribution.high)


def overrides(configuration: Mapping[str, Any], lora: LoraDefaults) -> dict[str, dict[str, Any]]:
    """The `lora` and `train` fields that `configuration` changes; alpha keeps the ratio of `lora` unless it is given."""
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
    """Every parameter that a space may hold -> its value in a recipe."""
    values = {f"lora.{k}": v for k, v in lora.model_dump().items()} | {
        f"train.{k}": v for k, v in train.model_dump().items()
    }
    return values | {ALPHA_OVER_R: lora.lora_alpha / lora.r, QUANTIZATION: quantization}


def inside(distribution: Any, value: Any) -> bool:
    """Whether `distribution` can draw `value`."""
    possible = values_of(distribution)
    if possible is not None:
        return value in possible
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def default_configuration(
    space: SearchSpace, lora: LoraDefaults, train: TrainDefaults, quantization: Quantization = "none"
) -> Configuration | None:
    """The default recipe as a point of `space`, to be tried first; None where it lies outside."""
    values = recipe_values(lora, train, quantization)
    point = {name: values[name] for name in space.parameters}
    for name, distribution in space.parameters.items():
        if name in space.active(point) and not inside(distribution, point[name]):
            return None
    return space.active(point)
