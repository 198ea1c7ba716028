"""From names to a search request, and from a winner to a contender that can be confirmed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from moodbench.benchmark.resolve import resolve
from moodbench.config import Catalogue
from moodbench.config.catalogue import merge
from moodbench.config.schema import ModelEntry
from moodbench.config.search_space import load_space, overrides
from moodbench.data.source import load_source
from moodbench.errors import UsageError
from moodbench.hardware import Hardware
from moodbench.models.families import family_of
from moodbench.models.locate import config_of
from moodbench.spec import BenchmarkSpec
from moodbench.tuning.records import SearchTrial
from moodbench.tuning.search import SchedulerName, SearcherName, SearchRequest


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
) -> SearchRequest:
    """The search of the space `space_name` for the one model of `spec` on its one data set, its own or a named one.

    Everything wrong with it is raised here, before anything runs: UsageError and its kinds, DataError,
    PrerequisiteError.
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
    family = family_of(name, entry, catalogue.families)[1]
    space = load_space(space_name, catalogue.training, _width(name, entry))
    searched = spec.model_copy(update={"seeds": (space.training_seed,)})
    (trial,) = resolve(searched, catalogue, machine, with_baseline=False)
    data = trial.fit.dataset
    num_train = int((load_source(data.name, data).examples.frame["split"] == "train").sum())
    return SearchRequest(
        base=trial.fit,
        num_train=min(num_train, data.max_train_examples or num_train),
        targets=lambda lora: family.targets(lora.target_modules),
        space_name=space_name,
        space=space,
        searcher=searcher,
        scheduler=scheduler,
        num_trials=num_trials or space.num_trials,
        budget_s=budget_s,
        device=trial.measure.device,
        num_cpus=machine.num_cores,
    )


def tuned_name(model: str) -> str:
    """The name under which a search's winner stands on the board."""
    return f"{model}-tuned"


def tuned_entry(request: SearchRequest, best: SearchTrial, num_tried: int, catalogue: Catalogue) -> ModelEntry:
    """The catalogue entry of the winner: its base's, with what the search changed."""
    assert request.base.lora is not None
    entry = catalogue.model(best.model)
    changed: dict[str, dict[str, Any]] = overrides(best.configuration, request.base.lora)
    return entry.model_copy(
        update={
            "lora": merge(entry.lora, changed["lora"]),
            "train": merge(entry.train, changed["train"]),
            "description": f"{best.model} with the best of {num_tried} configurations of {best.space} "
            f"on {best.dataset}'s validation split",
        }
    )


def with_tuned(catalogue: Catalogue, name: str, entry: ModelEntry) -> Catalogue:
    """`catalogue` with the winner in it."""
    return replace(catalogue, models={**catalogue.models, name: entry})


def _width(name: str, entry: ModelEntry) -> int | None:
    """The width of the model's layers, above which a rank adds nothing; None where its configuration does not say."""
    assert entry.source is not None
    config = config_of(name, entry.source) or {}
    width = config.get("hidden_size", config.get("d_model", config.get("n_embd", config.get("dim"))))
    return int(width) if width else None
