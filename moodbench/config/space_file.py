"""Search space files: find them by name, read them, and validate every value as a fit would."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from moodbench.config.catalogue import merge
from moodbench.config.schema import (
    MAX_LORA_ALPHA,
    Family,
    LoraDefaults,
    Quantization,
    TrainingFile,
    quantization_conflict,
)
from moodbench.config.search_space import (
    ALPHA_OVER_R,
    KINDS,
    QUANTIZATION,
    SECTIONS,
    Configuration,
    LogUniform,
    SearchSpace,
    SpaceError,
    Uniform,
    ends_of,
    overrides,
)
from moodbench.config.yaml_files import line_of, load_yaml, read_yaml_text, validation_message
from moodbench.errors import SpecError, UnknownNameError

DISTRIBUTIONS = ("choice", "uniform", "log_uniform", "integer", "power_of_two")


class SpaceFile(NamedTuple):
    """Path and YAML text of a search space."""

    where: str
    text: str

    def at(self, path: tuple[str, ...], reason: str) -> str:
        """Return `reason` prefixed with file, line and key."""
        line = line_of(self.text, path)
        return f"{self.where}{f', line {line}' if line else ''}: {'.'.join(path)}: {reason}"


def available_spaces() -> dict[str, Path]:
    """Return name -> file of the search spaces that come with MoodBench."""
    packaged = Path(str(files("moodbench"))) / "tune_spaces"
    folder = packaged if packaged.is_dir() else Path(str(files("moodbench"))).parent / "tune_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_space(name: str) -> SpaceFile:
    """Return path and text of the search space called `name`, or of the YAML file `name`.

    Raises: UnknownNameError, PrerequisiteError or SpecError.
    """
    path = Path(name)
    if not name.endswith((".yaml", ".yml")):
        known = available_spaces()
        if name not in known:
            raise UnknownNameError("search space", name, known)
        path = known[name]
    return SpaceFile(str(path), read_yaml_text(path, "a search space"))


def load_space(
    name: str,
    training: TrainingFile,
    max_rank: int | None = None,
    families: Mapping[str, Family] | None = None,
    family: str | None = None,
) -> SearchSpace:
    """Return the search space called `name`, or that in the YAML file `name`, with every value validated.

    The values override the defaults in `training`. `max_rank` is the width of the narrowest adapted layer; a higher
    rank adds nothing. If `families` are given, the overrides of all families are validated, and those of `family` and
    its kind are applied.
    Raises: SpecError, which names file, line, key, value and what is allowed; the errors of `read_space`.
    """
    file = read_space(name)
    try:
        space = SearchSpace.model_validate(load_yaml(file.text, file.where))
    except ValidationError as error:
        raise SpecError(space_message(error, file)) from error
    parts = {("parameters",): space.parameters} | {("families", k): v for k, v in space.families.items()}
    for keys, parameters in parts.items():
        for parameter, distribution in parameters.items():
            for value in ends_of(distribution):
                real = isinstance(distribution, Uniform | LogUniform)
                _check((*keys, parameter), value, training, max_rank, file, real=real)
    try:
        for other in space.families:
            if families is not None and other not in (*KINDS, *families):
                reason = str(UnknownNameError("family", other, (*KINDS, *families)))
                raise SpecError(file.at(("families", other), reason))
            space.for_family(*_names(other, families or {}))
        if families is not None and family is not None:
            space = space.for_family(*_names(family, families))
    except SpaceError as problem:
        raise SpecError(file.at(problem.path, problem.reason)) from problem
    check_together(space, training.lora, "none", file)
    return space


def _names(family: str, families: Mapping[str, Family]) -> tuple[str, ...]:
    """Return the keys under `families` that apply to a model of `family`: its kind, then the family itself."""
    return (families[family].kind, family) if family in families else (family,)


def check_together(space: SearchSpace, lora: LoraDefaults, quantization: Quantization, file: SpaceFile) -> None:
    """Raise SpecError for values that `space` can combine but that a fit with the recipe `lora` cannot.

    Checks each value with the rest of the recipe, and each pair of values.
    """
    names = [n for n in space.parameters if n == QUANTIZATION or n.startswith("lora.")]
    for name in names:
        needed = {k: v[0] for k, v in space.parameters[name].when.items()}
        for value in ends_of(space.parameters[name]):
            problem = _contradiction(space.active(needed | {name: value}), lora, quantization)
            if problem:
                reason = (
                    f"{value!r} with the recipe's other settings: {problem}; leave the value out, or change the recipe"
                )
                raise SpecError(file.at(("parameters", name), reason))
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
                line = line_of(file.text, ("parameters", other))
                raise SpecError(
                    f"{file.where}, line {line}: parameters.{one} {values[0]!r} with parameters.{other} {values[1]!r}: "
                    f"{problem}; make one depend on the other with `when`, or leave a value out"
                )


def _contradiction(point: Configuration, lora: LoraDefaults, quantization: Quantization) -> str | None:
    try:
        made = LoraDefaults.model_validate(lora.model_dump() | overrides(point, lora)["lora"])
    except ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return quantization_conflict(made, point.get(QUANTIZATION, quantization))


def _check(
    path: tuple[str, ...],
    value: Any,
    training: TrainingFile,
    max_rank: int | None,
    file: SpaceFile,
    *,
    real: bool,
) -> None:
    """Raise SpecError for a value that no fit accepts."""
    parameter = path[-1]
    reason = None
    if parameter == ALPHA_OVER_R:
        most = MAX_LORA_ALPHA / training.lora.r
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
            reason = f"{value!r}; allowed are numbers above 0 up to {most:g}"
    elif parameter == QUANTIZATION:
        if value not in get_args(Quantization):
            reason = f"{value!r}; allowed are {', '.join(get_args(Quantization))}"
    else:
        section, _, field = parameter.partition(".")
        kind = SECTIONS[section].model_fields[field].annotation
        if real and int in (kind, *get_args(kind)):
            reason = (
                f"real numbers from {value!r} on drawn for a whole number; allowed are integer, power_of_two, choice"
            )
        elif parameter == "lora.r" and max_rank is not None and isinstance(value, int) and value > max_rank:
            reason = (
                f"rank {value} is above the width of the narrowest adapted layer; allowed are ranks up to {max_rank}"
            )
        else:
            base = getattr(training, section).model_dump()
            try:
                SECTIONS[section].model_validate(merge(base, {field: value}), strict=True)
            except ValidationError as error:
                here = f"{file.where}, line {line_of(file.text, path)}"
                raise SpecError(
                    validation_message(error, here, None, (*path[:-1], section), schema=SECTIONS[section])
                ) from error
    if reason is not None:
        raise SpecError(file.at(path, reason))


def space_message(error: ValidationError, file: SpaceFile) -> str:
    """Return a message with one line per problem in the search space of `file`."""
    lines: list[str] = []
    for problem in error.errors():
        path = tuple(step for step in problem["loc"] if step not in DISTRIBUTIONS)
        wrong = problem.get("ctx", {}).get("error")
        if isinstance(wrong, SpaceError):
            lines.append(file.at(wrong.path, wrong.reason))
        elif placed := _plain_message(problem["type"], problem["input"], tuple(map(str, path))):
            lines.append(file.at(*placed))
        else:
            plain = InitErrorDetails(type=problem["type"], loc=path, input=problem["input"], ctx=problem.get("ctx", {}))
            only = ValidationError.from_exception_data(error.title, [plain])
            lines += validation_message(only, file.where, file.text, schema=SearchSpace).splitlines()
    return "\n".join(dict.fromkeys(lines))  # pydantic reports a value once for every type of a union


def _plain_message(kind: str, seen: Any, path: tuple[str, ...]) -> tuple[tuple[str, ...], str] | None:
    """Return the path and reason of a problem for which pydantic's own message would not help; None for others."""
    allowed = ", ".join(DISTRIBUTIONS)
    if kind == "union_tag_not_found":
        return path, f"has no `distribution`; allowed are {allowed} (seen: {seen!r})"
    if kind == "union_tag_invalid":
        return (*path, "distribution"), str(UnknownNameError("distribution", str(seen["distribution"]), DISTRIBUTIONS))
    if kind in ("model_attributes_type", "model_type"):
        return path, f"expected `distribution: NAME` with its values below it; allowed are {allowed} (seen: {seen!r})"
    for key, depth in (("values", 1), ("when", 2)):
        if key in path and len(path) > (end := path.index(key) + depth) and kind.endswith(("_type", "_parsing")):
            return path[:end], f"allowed are strings, numbers, true, false and null (seen: {seen!r})"
    return None
