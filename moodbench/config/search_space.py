"""What a hyper-parameter search may try: spaces as data, each value checked as a fit would check it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from importlib.resources import files
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from moodbench.config.catalogue import merge
from moodbench.config.explaining import explain
from moodbench.config.schema import (
    MAX_LORA_ALPHA,
    Count,
    Entry,
    Family,
    LoraDefaults,
    Quantization,
    TrainDefaults,
    TrainingFile,
    unlike_quantised,
)
from moodbench.config.yaml_text import line_of, load_yaml
from moodbench.errors import PrerequisiteError, SpecError, UnknownNameError

ALPHA_OVER_R = "lora.alpha_over_r"
"""LoRA scales its update by lora_alpha / r, so the ratio is searched: the best alpha moves with the rank, the ratio less."""
_SECTIONS: dict[str, type[BaseModel]] = {"lora": LoraDefaults, "train": TrainDefaults}
_NOT_SEARCHED = {
    "lora.lora_alpha",
    "train.select_by",
    "train.evaluations_per_epoch",
    "train.max_evaluation_steps",
    "train.precision",
}
"""Alpha follows from the ratio; the precision from the device; the others would change what is compared or when."""
KINDS = ("encoder", "decoder")
QUANTIZATION = "quantization"
"""How the frozen weights are stored: none, int8 or nf4."""
SEARCHED = tuple(
    sorted(
        {f"{section}.{name}" for section, schema in _SECTIONS.items() for name in schema.model_fields} - _NOT_SEARCHED
        | {ALPHA_OVER_R, QUANTIZATION}
    )
)
"""Every parameter that a space may hold."""
MIN_TRAINING_SEED = 100
"""Seeds below are those of confirmations."""
Value = bool | int | float | str
Configuration = dict[str, Any]
"""Parameter -> value, the inactive ones left out."""


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
        if len(set(map(repr, self.values))) != len(self.values):
            raise ValueError(f"values {list(self.values)}: one is given twice")
        return self


class Uniform(_Range):
    """A real number, every value as likely."""

    distribution: Literal["uniform"]
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)


class LogUniform(_Range):
    """A positive real number, every order of magnitude as likely."""

    distribution: Literal["log_uniform"]
    low: float = Field(gt=0, allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)


class Integer(_Range):
    """A whole number."""

    distribution: Literal["integer"]
    low: int
    high: int


class PowerOfTwo(_Range):
    """A power of two, each as likely."""

    distribution: Literal["power_of_two"]
    low: int = Field(ge=1)
    high: int

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
    num_trials: Count = 16
    """Configurations tried unless the request says otherwise."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the search: the same seed proposes the same configurations for the same results."""
    training_seed: Annotated[int, Field(ge=MIN_TRAINING_SEED, lt=2**31)] = 1000
    """Of every fit of the search; confirmation uses lower seeds, so that luck is not carried over."""

    @model_validator(mode="after")
    def _known(self) -> SearchSpace:
        for family, changed in self.families.items():
            for name in changed:
                if name not in self.parameters:
                    raise ValueError(str(UnknownNameError(f"families.{family}: parameter", name, self.parameters)))
        for name, distribution in self.parameters.items():
            if name not in SEARCHED:
                raise ValueError(str(UnknownNameError("parameter", name, SEARCHED)))
            for other, allowed in distribution.when.items():
                if other not in self.parameters or other == name:
                    raise ValueError(f"{name}.when: {other!r} is no other parameter of this space")
                if self.parameters[other].when:
                    raise ValueError(f"{name}.when: {other!r} is itself conditional; one level is possible")
                possible = values_of(self.parameters[other])
                if possible is None:
                    raise ValueError(f"{name}.when: {other!r} has no list of values to compare with")
                strange = [v for v in allowed if v not in possible]
                if strange or not allowed:
                    raise ValueError(
                        f"{name}.when: {other} is never {strange or 'nothing'}; possible are {list(possible)}"
                    )
        return self

    def for_family(self, *names: str) -> SearchSpace:
        """The space as it is for a model of these names, most general first: its kind, then its family."""
        changed = dict(self.parameters)
        for name in names:
            changed |= self.families.get(name, {})
        plain = {name: each.model_dump() for name, each in changed.items()}
        return SearchSpace.model_validate({**self.model_dump(), "parameters": plain, "families": {}})

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


def default_configuration(
    space: SearchSpace, lora: LoraDefaults, train: TrainDefaults, quantization: Quantization = "none"
) -> Configuration | None:
    """The default recipe as a point of `space`, to be tried first; None where it lies outside."""
    values = recipe_values(lora, train, quantization)
    point = {name: values[name] for name in space.parameters}
    for name, distribution in space.parameters.items():
        possible = values_of(distribution)
        value = point[name]
        inside = value in possible if possible is not None else distribution.low <= value <= distribution.high  # type: ignore[union-attr]
        if name in space.active(point) and not inside:
            return None
    return space.active(point)


def available_spaces() -> dict[str, Path]:
    """Name -> file of the spaces that come with MoodBench."""
    packaged = Path(str(files("moodbench"))) / "tune_spaces"
    folder = packaged if packaged.is_dir() else Path(str(files("moodbench"))).parent / "tune_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_space(
    name: str,
    training: TrainingFile,
    max_rank: int | None = None,
    families: Mapping[str, Family] | None = None,
    family: str | None = None,
) -> SearchSpace:
    """The space called `name`, or in the YAML file `name`; every value it can draw is one that a fit accepts.

    `training` are the defaults that the values are laid over; `max_rank` is the width of the adapted layers, above which
    a rank adds nothing. With `families`, what the file says of other families is checked, and what it says of `family` or
    its kind holds. SpecError names file, line, key, value and what is allowed.
    """
    path, text = _read(name)
    try:
        space = SearchSpace.model_validate(load_yaml(text, str(path)))
    except ValidationError as error:
        raise SpecError(explain(error, str(path), text, schema=SearchSpace)) from error
    parts = {("parameters",): space.parameters} | {("families", k): v for k, v in space.families.items()}
    for keys, parameters in parts.items():
        for parameter, distribution in parameters.items():
            where = f"{path}, line {line_of(text, (*keys, parameter))}"
            for value in ends_of(distribution):
                real = isinstance(distribution, Uniform | LogUniform)
                _check(parameter, value, training, max_rank, where, keys, real=real)
    if families is not None:
        for other in space.families:
            if other not in (*KINDS, *families):
                where = f"{path}, line {line_of(text, ('families', other))}"
                raise SpecError(f"{where}: {UnknownNameError('family', other, (*KINDS, *families))}")
        if family is not None:
            kind = (families[family].kind,) if family in families else ()
            space = space.for_family(*kind, family)
    check_together(space, training.lora, "none", str(path), text)
    return space


def _read(name: str) -> tuple[Path, str]:
    path = Path(name)
    if not name.endswith((".yaml", ".yml")):
        known = available_spaces()
        if name not in known:
            raise UnknownNameError("search space", name, known)
        path = known[name]
    try:
        return path, path.read_text("utf-8")
    except OSError as error:
        raise PrerequisiteError(f"{path}: {error.strerror}; expected a YAML file with a search space") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text (byte {error.start}); expected YAML") from error


def check_together(
    space: SearchSpace, lora: LoraDefaults, quantization: Quantization, where: str, text: str | None = None
) -> None:
    """Nothing; SpecError for two values that `space` can draw at once but no fit of the recipe `lora` can have at once."""
    names = [n for n in space.parameters if n == QUANTIZATION or n.startswith("lora.")]
    for name in names:
        needed = {k: v[0] for k, v in space.parameters[name].when.items()}
        for value in ends_of(space.parameters[name]):
            problem = _contradiction(space.active(needed | {name: value}), lora, quantization)
            if problem:
                line = f", line {line_of(text, ('parameters', name))}" if text else ""
                raise SpecError(
                    f"{where}{line}: parameters.{name} {value!r} with the recipe's other settings: {problem}; leave the value "
                    "out, or change the recipe"
                )
    for one, other in combinations(names, 2):
        for values in product(ends_of(space.parameters[one]), ends_of(space.parameters[other])):
            point = dict(zip((one, other), values, strict=True))
            for name in (one, other):
                point = {k: v[0] for k, v in space.parameters[name].when.items()} | point
            point = space.active(point)
            if one not in point or other not in point:
                continue
            problem = _contradiction(point, lora, quantization)
            if problem:
                line = f", line {line_of(text, ('parameters', other))}" if text else ""
                raise SpecError(
                    f"{where}{line}: parameters.{one} {values[0]!r} with parameters.{other} {values[1]!r}: {problem}; "
                    "make one depend on the other with `when`, or leave a value out"
                )


def _contradiction(point: Configuration, lora: LoraDefaults, quantization: Quantization) -> str | None:
    try:
        made = LoraDefaults.model_validate(lora.model_dump() | overrides(point, lora)["lora"])
    except ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return unlike_quantised(made, point.get(QUANTIZATION, quantization))


def _check(
    parameter: str,
    value: Any,
    training: TrainingFile,
    max_rank: int | None,
    where: str,
    keys: tuple[str, ...],
    *,
    real: bool,
) -> None:
    key = ".".join((*keys, parameter))
    if parameter == ALPHA_OVER_R:
        most = MAX_LORA_ALPHA / training.lora.r
        if isinstance(value, bool | str) or not 0 < value <= most:
            raise SpecError(f"{where}: {key}: {value!r}; allowed are numbers above 0 up to {most:g}")
        return
    if parameter == QUANTIZATION:
        if value not in get_args(Quantization):
            raise SpecError(f"{where}: {key}: {value!r}; allowed are {', '.join(get_args(Quantization))}")
        return
    section, _, field = parameter.partition(".")
    kind = _SECTIONS[section].model_fields[field].annotation
    if real and int in (kind, *get_args(kind)):
        raise SpecError(
            f"{where}: {key}: real numbers drawn for a whole number; allowed are integer, power_of_two, choice"
        )
    if parameter == "lora.r" and max_rank is not None and isinstance(value, int | float) and value > max_rank:
        raise SpecError(
            f"{where}: {key}: rank {value} is above the width of the adapted layers; allowed are ranks up to {max_rank}"
        )
    base = getattr(training, section).model_dump()
    try:
        _SECTIONS[section].model_validate(merge(base, {field: value}))
    except ValidationError as error:
        raise SpecError(explain(error, where, None, (*keys, section), schema=_SECTIONS[section])) from error
