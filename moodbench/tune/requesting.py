"""Turn names into a search request, and a winner into a model that can be confirmed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from moodbench.benchmark.estimating import class_here, estimator_of, machine_of
from moodbench.benchmark.resolve import resolve
from moodbench.config import Catalogue
from moodbench.config.catalogue import merge
from moodbench.config.schema import Family, ModelEntry
from moodbench.config.search_space import (
    ALPHA_OVER_R,
    QUANTIZATION,
    SearchSpace,
    ends_of,
    overrides,
    values_of,
)
from moodbench.config.space_file import check_together, load_space, read_space
from moodbench.config.space_problems import located
from moodbench.data.source import load_source
from moodbench.errors import SpecError, UsageError
from moodbench.hardware import Device, Hardware
from moodbench.models.families import family_of
from moodbench.models.features import check_optimizer, check_quantization, weights_format
from moodbench.models.locate import config_of
from moodbench.spec import BenchmarkSpec, FitSpec
from moodbench.spec.fit_schedule import num_trained_on
from moodbench.store import Store
from moodbench.tune.chance_level import chance_in
from moodbench.tune.objectives import Objective
from moodbench.tune.optuna_space import grid
from moodbench.tune.records import SearchTrial
from moodbench.tune.request import SearcherName, SearchRequest
from moodbench.tune.schedulers import SchedulerName
from moodbench.tune.underway import proposed

UNCORRECTED = 0.5
"""Share of an estimate that is relied on while no measurement on this machine has corrected it."""


def make_request(
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
    together: int = 1,
    warm_start: bool = True,
    objective: Objective = "quality",
) -> SearchRequest:
    """Return the request to search the space `space_name` for the one model of `spec` on its one dataset.

    Every problem of the request is raised here, before anything runs.

    Raises:
        UsageError: If an option or the space is not allowed (including SpecError).
        DataError: If the dataset cannot be used.
        PrerequisiteError: If something that the search needs is missing.
    """
    (name,) = spec.models
    entry = catalogue.model(name)
    if entry.method != "lora" or entry.source is None:
        fine = [n for n, e in catalogue.models.items() if e.method == "lora"]
        raise UsageError(
            f"--model {name}: is fitted by {entry.method}, which has no rank and alpha; possible are {', '.join(fine)}"
        )
    if num_trials is not None and num_trials < 1:
        raise UsageError(f"--trials {num_trials}: must be 1 or more")
    if together < 1 or (together > 1 and scheduler != "none"):
        raise UsageError(
            f"--together {together} with --scheduler {scheduler}: needs 1 or more, and from 2 on --scheduler none, as "
            "configurations that share passes cannot be stopped one by one"
        )
    if together > 1 and objective == "memory":
        raise UsageError(
            f"--together {together} with --objective memory: configurations that share a process have no memory of "
            "their own; leave one of the two out"
        )
    family_name, family = family_of(name, entry, catalogue.families)
    space = load_space(space_name, catalogue.training, _width(name, entry, family), catalogue.families, family_name)
    _check_overrides(spec, space, space_name)
    searched = spec.model_copy(update={"seeds": (space.training_seed,)})
    (trial,) = resolve(searched, catalogue, machine, with_baseline=False)
    device = trial.measure.device
    space, base, settled = _possible_on(device, space, trial.fit, space_name)
    assert base.lora is not None and base.train is not None
    check_together(space, base.lora, base.quantization, *read_space(space_name))
    data = base.dataset
    num_params = entry.size.num_params if entry.size else 0
    stored = values_of(space.parameters[QUANTIZATION]) if QUANTIZATION in space.parameters else ()
    num_train = int((load_source(data.name, data).examples.frame["split"] == "train").sum())
    request = SearchRequest(
        base=base,
        num_train=num_trained_on(base, num_train),
        targets=lambda lora: family.targets(lora.target_modules),
        formats={
            q: weights_format(base.train.precision, q, device, num_params)  # type: ignore[arg-type]
            for q in stored or ()
        },
        space_name=space_name,
        space=space,
        searcher=searcher,
        scheduler=scheduler,
        num_trials=num_trials or space.num_trials,
        budget_s=budget_s,
        device=device,
        chance=chance_in(base),
        settled=settled,
        warm_start=warm_start,
        together=together,
        objective=objective,
    )
    if searcher == "grid":
        if num_trials is not None:
            raise UsageError(
                f"--trials {num_trials} with --search grid: a grid is tried as a whole, {len(grid(space))} "
                "configurations here; leave --trials out, or take --search random"
            )
        grid(space)  # raises for a grid that is too large
    if budget_s is not None and not proposed(store, request.search_id):  # a started search shows how long it takes
        _check_budget(request, budget_s, catalogue, machine, store)
    return request


def _check_budget(
    request: SearchRequest, budget_s: float, catalogue: Catalogue, machine: Hardware, store: Store
) -> None:
    """Check that the budget suffices, by estimate, for the shortest configuration.

    An estimate that no measurement on this machine has corrected may be twice too long.

    Raises:
        SpecError: If it does not suffice.
    """
    base = request.base
    assert base.train is not None
    estimator = estimator_of([base], catalogue, store)
    if not estimator.knows(base):
        return
    epochs = request.space.parameters.get("train.epochs")
    shortest = base.train.epochs if epochs is None else min(ends_of(epochs))
    fit = base.model_copy(update={"train": base.train.model_copy(update={"epochs": shortest})})
    found = estimator.trial(
        fit,
        class_here(machine, request.device, catalogue),
        catalogue.protocol(None),
        batch_size=catalogue.evaluation.prediction_batch_size,
        machine=machine_of(asdict(machine), request.device),
    ).fit
    needed = found.seconds if found.num_observations else found.seconds * UNCORRECTED
    if budget_s < needed:
        raise SpecError(
            f"--budget of {budget_s:.0f} s: one configuration of {request.space_name} ({shortest:g} epochs of "
            f"{request.num_train:,} texts) takes {needed:.0f} s or more here by estimate, so none would end; allowed "
            "are budgets above that, or fewer texts with --max-train-examples"
        )


def _check_overrides(spec: BenchmarkSpec, space: SearchSpace, space_name: str) -> None:
    """Check that no option sets a parameter that the space searches; it would override the winner in the confirmation.

    Raises:
        UsageError: If one does.
    """
    searched = set(space.parameters) | (
        {"lora.lora_alpha"} if {"lora.r", ALPHA_OVER_R} & set(space.parameters) else set()
    )
    given = {f"lora.{key}": (f"--lora {key}", value) for key, value in spec.lora.items()}
    given |= {f"train.{key}": (f"--train {key}", value) for key, value in spec.train.items()}
    if spec.quantization is not None:
        given[QUANTIZATION] = ("--quantization", spec.quantization)
    for parameter, (option, value) in given.items():
        if parameter in searched:
            said = f"{option} {value}" if parameter == QUANTIZATION else f"{option}={value}"
            raise UsageError(f"{said}: {space_name} searches it; leave it out, or take a space without it")


def _possible_on(
    device: Device, space: SearchSpace, base: FitSpec, space_name: str
) -> tuple[SearchSpace, FitSpec, dict[str, Any]]:
    """Return space and recipe without the optimisers and quantizations that `device` lacks.

    The third value holds the parameters that this leaves with a single value other than the recipe's own.

    Raises:
        SpecError: If no value of a parameter is left.
    """
    name, settled = base.model.name, dict[str, Any]()
    checks: dict[str, Callable[[Any], Any]] = {
        "train.optimizer": lambda value: check_optimizer(value, device, name),
        QUANTIZATION: lambda value: check_quantization(value, device, name),
    }
    for parameter, check in checks.items():
        if parameter not in space.parameters:
            continue
        values, lacking = values_of(space.parameters[parameter]) or (), {}
        for value in values:
            try:
                check(value)
            except SpecError as error:
                lacking[value] = error
        left = [value for value in values if value not in lacking]
        if not left:
            where, text = read_space(space_name)
            raise SpecError(located(where, text, ("parameters", parameter), str(lacking[values[0]])))
        if lacking:
            space = space.without(parameter, lacking)
        if len(left) == 1:  # no longer searched, but fixed to the space's value
            if left[0] != (
                base.quantization if parameter == QUANTIZATION or base.train is None else base.train.optimizer
            ):
                settled[parameter] = left[0]
            stored = {"quantization": left[0]} if parameter == QUANTIZATION else {}
            train = base.train if stored or base.train is None else base.train.model_copy(update={"optimizer": left[0]})
            base = base.model_copy(update={**stored, "train": train})
    return space, base, settled


def tuned_entry(
    request: SearchRequest,
    best: SearchTrial,
    num_tried: int,
    catalogue: Catalogue,
    spec: BenchmarkSpec,
    *,
    stays: bool = False,
) -> ModelEntry:
    """Return the catalogue entry of the trial `best`: its model's, changed by the options of `spec` and the search.

    `stays` says that the default recipe is the winner and `best` the best of the others.
    """
    assert request.base.lora is not None
    entry = catalogue.model(best.model)
    changed: dict[str, dict[str, Any]] = overrides({**request.settled, **best.configuration}, request.base.lora)
    return entry.model_copy(
        update={
            "lora": merge(merge(entry.lora, spec.lora), changed["lora"]),
            "train": merge(merge(entry.train, spec.train), changed["train"]),
            "text": merge(entry.text, spec.text),
            "quantization": best.configuration.get(QUANTIZATION, request.base.quantization),
            "description": f"{best.model} with the best of {num_tried} configurations of {best.space} "
            f"on {best.dataset}'s validation split" + (", where the default recipe stays the pick" if stays else ""),
        }
    )


def with_tuned(catalogue: Catalogue, name: str, entry: ModelEntry) -> Catalogue:
    """Return `catalogue` with the entry of the winner."""
    return replace(catalogue, models={**catalogue.models, name: entry})


def _width(name: str, entry: ModelEntry, family: Family) -> int | None:
    """Return the narrowest width of the layers that LoRA adapts; None if neither configuration nor catalogue has it."""
    assert entry.source is not None
    config = config_of(name, entry.source) or {}
    return narrowest(config.get("text_config", config), family) or (
        narrowest(entry.size.model_dump(), family) if entry.size else None
    )


def narrowest(config: Mapping[str, Any], family: Family) -> int | None:
    """Return the narrowest width of the layers that LoRA adapts; None if `config` does not have it.

    A rank above that width adds nothing. With grouped-query attention (Ainslie et al. 2023), keys and values are
    narrower than the model: their width is the number of key-value heads x the width of one head.
    """
    width = next((config[key] for key in ("hidden_size", "d_model", "n_embd", "dim") if config.get(key)), None)
    if width is None:
        return None
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if not heads or not groups or not {"k_proj", "v_proj"} & set(family.attention):
        return int(width)
    return min(int(width), int(groups) * int(config.get("head_dim") or width // heads))
