"""Search requests: check names and options, and turn them into a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moodbench.benchmark.estimates import class_here, estimator_of, machine_of
from moodbench.benchmark.resolve import resolve
from moodbench.config import Catalogue
from moodbench.config.schema import Family, ModelEntry
from moodbench.config.search_space import ALPHA_OVER_R, QUANTIZATION, SearchSpace, ends_of, values_of
from moodbench.config.space_file import check_together, load_space, read_space
from moodbench.data.loader import Sources, load_source
from moodbench.errors import SpecError, UsageError
from moodbench.hardware import Device, Hardware
from moodbench.models.families import family_of
from moodbench.models.features import check_optimizer, check_quantization
from moodbench.models.locate import config_of
from moodbench.spec import BenchmarkSpec, FitSpec, TrialSpec
from moodbench.spec.fit_schedule import num_trained_on
from moodbench.store import Store
from moodbench.tune.encoding import grid
from moodbench.tune.schedulers import chance_level_of
from moodbench.tune.search import Objective, SchedulerName, Search, SearcherName
from moodbench.tune.trials import read_progress

UNCORRECTED = 0.5
"""Share of an estimate that is relied on while no measurement on this machine has corrected it."""


def make_search(
    spec: BenchmarkSpec,
    space_name: str,
    catalogue: Catalogue,
    machine: Hardware,
    *,
    searcher: SearcherName,
    scheduler: SchedulerName,
    num_trials: int | None,
    budget_s: float | None,
    store: Store,
    warm_start: bool = True,
    objective: Objective = "quality",
) -> Search:
    """Return the search of the space `space_name` for the one model of `spec` on its one dataset.

    Every problem of the request is raised here, before anything runs.

    Raises:
        UsageError: If an option or the space is not allowed (including SpecError).
        DataError: If the dataset cannot be used.
        PrerequisiteError: If something that the search needs is missing.
    """
    (name,) = spec.models
    entry = catalogue.model(name)
    if entry.method != "lora" or entry.source is None:
        possible = [n for n, e in catalogue.models.items() if e.method == "lora"]
        raise UsageError(
            f"--model {name}: is fitted by {entry.method}, which has no rank and alpha; "
            f"possible are {', '.join(possible)}"
        )
    if num_trials is not None and num_trials < 1:
        raise UsageError(f"--trials {num_trials}: must be 1 or more")
    family_name, family = family_of(name, entry, catalogue.families)
    space = load_space(space_name, catalogue.training, _width(name, entry, family), catalogue.families, family_name)
    _check_overrides(spec, space, space_name)
    seeded = spec.model_copy(update={"seeds": (space.training_seed,)})
    sources = Sources()

    def resolved(changes: Mapping[str, Any]) -> TrialSpec:
        return resolve(seeded.model_copy(update=changes), catalogue, machine, sources=sources, with_baseline=False)[0]

    trial = resolved({})
    device = trial.measure.device
    space, base, fixed = _supported_by(device, space, trial.fit, space_name)
    assert base.lora is not None and base.train is not None
    check_together(space, base.lora, base.quantization, read_space(space_name))
    num_train = int((load_source(base.dataset.name, base.dataset).frame["split"] == "train").sum())
    search = Search(
        base=base,
        num_train=num_trained_on(base, num_train),
        family=family,
        formats={each: resolved({"quantization": each}).fit.dtype for each in _listed(space, QUANTIZATION)},
        space_name=space_name,
        space=space,
        searcher=searcher,
        scheduler=scheduler,
        num_trials=num_trials or space.num_trials,
        budget_s=budget_s,
        device=device,
        chance=chance_level_of(base),
        fixed=fixed,
        warm_start=warm_start,
        objective=objective,
    )
    if searcher == "grid":
        points = grid(space)  # raises for a grid that is too large
        if num_trials is not None:
            raise UsageError(
                f"--trials {num_trials} with --search grid: a grid is tried as a whole, {len(points)} "
                "configurations here; leave --trials out, or choose --search random"
            )
    if budget_s is not None and not read_progress(store, search.search_id).started:  # else its own pace is known
        _check_budget(search, budget_s, catalogue, machine, store)
    return search


def _listed(space: SearchSpace, parameter: str) -> tuple[Any, ...]:
    """Return the values of a parameter that `space` lists; empty if it does not search it."""
    searched = space.parameters.get(parameter)
    return () if searched is None else values_of(searched) or ()


def _check_budget(search: Search, budget_s: float, catalogue: Catalogue, machine: Hardware, store: Store) -> None:
    """Raise SpecError if the budget does not suffice, by estimate, for the shortest configuration.

    An estimate that no measurement on this machine has corrected may be twice too long.
    """
    base = search.base
    assert base.train is not None
    estimator = estimator_of([base], catalogue, store, Sources())
    if not estimator.knows(base):
        return
    epochs = search.space.parameters.get("train.epochs")
    shortest = base.train.epochs if epochs is None else min(ends_of(epochs))
    fit = base.model_copy(update={"train": base.train.model_copy(update={"epochs": shortest})})
    estimate = estimator.trial(
        fit,
        class_here(machine, search.device, catalogue),
        catalogue.protocol(None),
        batch_size=catalogue.evaluation.prediction_batch_size,
        machine=machine_of(machine, search.device),
    ).fit
    needed = estimate.seconds if estimate.num_observations else estimate.seconds * UNCORRECTED
    if budget_s < needed:
        raise SpecError(
            f"--budget of {budget_s:.0f} s: one configuration of {search.space_name} ({shortest:g} epochs of "
            f"{search.num_train:,} texts) takes {needed:.0f} s or more here by estimate, so none would end; allowed "
            "are budgets above that, or fewer texts with --max-train-examples"
        )


def _check_overrides(spec: BenchmarkSpec, space: SearchSpace, space_name: str) -> None:
    """Raise UsageError for an option with a parameter that is searched: it would override the winner when confirmed."""
    searched = set(space.parameters) | (
        {"lora.lora_alpha"} if {"lora.r", ALPHA_OVER_R} & set(space.parameters) else set()
    )
    given = {f"lora.{key}": f"--lora {key}={value}" for key, value in spec.lora.items()}
    given |= {f"train.{key}": f"--train {key}={value}" for key, value in spec.train.items()}
    if spec.quantization is not None:
        given[QUANTIZATION] = f"--quantization {spec.quantization}"
    for parameter, option in given.items():
        if parameter in searched:
            raise UsageError(f"{option}: {space_name} searches it; leave it out, or choose a space without it")


def _supported_by(
    device: Device, space: SearchSpace, base: FitSpec, space_name: str
) -> tuple[SearchSpace, FitSpec, dict[str, Any]]:
    """Return space and recipe without the optimisers and quantizations that `device` lacks.

    The third value holds the parameters that this leaves with a single value other than the recipe's own.

    Raises: SpecError if no value of a parameter is left.
    """
    name, fixed = base.model.name, dict[str, Any]()
    checks: dict[str, Callable[[Any], Any]] = {
        "train.optimizer": lambda value: check_optimizer(value, device, name),
        QUANTIZATION: lambda value: check_quantization(value, device, name),
    }
    for parameter, check in checks.items():
        values, lacking = _listed(space, parameter), {}
        for value in values:
            try:
                check(value)
            except SpecError as error:
                lacking[value] = error
        left = [value for value in values if value not in lacking]
        if lacking and not left:
            raise SpecError(read_space(space_name).at(("parameters", parameter), str(lacking[values[0]])))
        if lacking:
            space = space.without(parameter, lacking)
        if len(left) == 1:  # no longer searched, but fixed to the space's value
            assert base.train is not None
            if left[0] != (base.quantization if parameter == QUANTIZATION else base.train.optimizer):
                fixed[parameter] = left[0]
            base = base.model_copy(
                update={"quantization": left[0]}
                if parameter == QUANTIZATION
                else {"train": base.train.model_copy(update={"optimizer": left[0]})}
            )
    return space, base, fixed


def _width(name: str, entry: ModelEntry, family: Family) -> int | None:
    """Return the narrowest width of the layers that LoRA adapts; None if neither configuration nor catalogue has it."""
    assert entry.source is not None
    config = config_of(name, entry.source) or {}
    nested = config.get("text_config")
    return narrowest(nested if isinstance(nested, dict) else config, family) or (
        narrowest(entry.size.model_dump(), family) if entry.size else None
    )


def narrowest(config: Mapping[str, Any], family: Family) -> int | None:
    """Return the narrowest width of the layers that LoRA adapts; None if `config` does not have it as a number.

    A rank above that width adds nothing. With grouped-query attention (Ainslie et al. 2023), keys and values are
    narrower than the model: their width is the number of key-value heads x the width of one head.
    """
    sizes = {key: value for key, value in config.items() if type(value) is int and value > 0}  # True is no size
    width = next((sizes[key] for key in ("hidden_size", "d_model", "n_embd", "dim") if key in sizes), None)
    heads, groups = sizes.get("num_attention_heads"), sizes.get("num_key_value_heads")
    if width is None or not heads or not groups or not {"k_proj", "v_proj"} & set(family.attention):
        return width
    return min(width, groups * (sizes.get("head_dim") or width // heads))


def budget_seconds(text: str, price_per_hour: float | None) -> float:
    """Return the seconds of a budget such as 90s, 30m, 2h or $5.

    Raises: SpecError if `text` is not a budget above 0, or is in dollars without a known price.
    """
    allowed = "allowed are a number with s, m or h (30m), or dollars ($5) where the machine's price is known"
    if text.startswith("$") and price_per_hour is None:
        raise SpecError(f"--budget {text}: no price per hour is known for this machine; give --price-per-hour")
    try:
        if text.startswith("$"):
            seconds = float(text[1:]) / (price_per_hour or 0) * 3600
        else:
            seconds = float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1:]]
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise SpecError(f"--budget {text}: not understood; {allowed}") from error
    if not 0 < seconds < float("inf"):
        raise SpecError(f"--budget {text}: must be above 0; {allowed}")
    return seconds
