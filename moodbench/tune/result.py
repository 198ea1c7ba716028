"""Results of searches in a store: the trials of each, its parameters, its winner and its Pareto front.

The winner also becomes a model of its own here, for its confirmation on the test split.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.catalogue import merge
from moodbench.config.schema import LoraDefaults, ModelEntry, TrainDefaults
from moodbench.config.search_space import QUANTIZATION, overrides, recipe_values
from moodbench.errors import StoreError
from moodbench.paths import checked_name, folder_name
from moodbench.spec import BenchmarkSpec, FitSpec, TrialSpec
from moodbench.store import Store
from moodbench.tune.encoding import Axis, axes_of, axes_seen
from moodbench.tune.search import Objective, Search, registered
from moodbench.tune.trials import SearchTrial, read_progress, search_trials, sign

logger = logging.getLogger(__name__)
TOLERANCE = 0.01
"""Largest difference of validation scores without practical relevance: a point of accuracy or F1, 0.01 of nll."""


@dataclass(frozen=True)
class SearchResult:
    """One search of a store."""

    search_id: str
    trials: tuple[SearchTrial, ...]
    """In the order in which they ended; at least one."""
    axes: tuple[Axis, ...]
    """Searched parameters: those of the space, or those that occur in the trials if no request is stored."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Value of each parameter that a configuration does not set."""
    max_texts: int | None = None
    """Number of texts processed in the longest possible training; None if no request is stored."""
    objective: Objective = "quality"
    """Objective by which the winner is chosen."""
    default_fit_id: str | None = None
    """Fit id of the default recipe with the seed of the search; None if no request is stored."""

    @property
    def model(self) -> str:
        """The model whose recipe was searched."""
        return self.trials[0].model

    @property
    def dataset(self) -> str:
        """The dataset that it was trained and validated on."""
        return self.trials[0].dataset

    @property
    def space(self) -> str:
        """Name or file of the search space."""
        return self.trials[0].space

    @property
    def metric(self) -> str:
        """Name of the validation score."""
        return self.trials[0].metric

    @property
    def best(self) -> SearchTrial | None:
        """The winner; None if no trial has a score."""
        return winner(self.trials, self.objective, self.default_fit_id)

    @property
    def title(self) -> str:
        """Model, dataset, space and the first characters of the id."""
        return f"{self.model} · {self.dataset} · {self.space} · {self.search_id[:6]}"

    def num(self, status: str) -> int:
        """Return the number of trials with this status."""
        return sum(t.status == status for t in self.trials)


def searches(store: Store) -> tuple[SearchResult, ...]:
    """Return the searches of `store`, sorted by model, dataset and space.

    A search whose request or journal cannot be read, such as one of another version, is known by its records alone.
    """
    by_id: dict[str, list[SearchTrial]] = {key.split("/")[1]: [] for key in store.location.keys("searches")}
    for trial in search_trials(store):
        by_id.setdefault(trial.search_id, []).append(trial)
    found = []
    for search_id, recorded in by_id.items():
        search, trials = None, recorded
        try:
            search = registered(store, search_id)
            trials = recorded if search is None else with_unfinished(store, search, recorded)
        except StoreError as error:
            logger.warning("%s", error)
        if trials:
            found.append(search_result(trials, search))
    return tuple(sorted(found, key=lambda s: (s.model, s.dataset, s.space, s.search_id)))


def with_unfinished(store: Store, search: Search, recorded: Sequence[SearchTrial]) -> list[SearchTrial]:
    """Return the `recorded` trials of `search`, followed by the started ones without a record but with a score.

    The latter are in the order in which they started.
    """
    progress = read_progress(store, search.search_id)
    started = progress.without_record({trial.fit_id for trial in recorded})
    return [*recorded] + [
        search.trial(
            fit_id,
            each.configuration,
            each.curve,
            status="unfinished",
            train_time_s=each.seconds,
            elapsed_s=progress.elapsed_s,
        )
        for fit_id, each in started.items()
        if each.curve
    ]


def search_result(trials: Sequence[SearchTrial], search: Search | None = None) -> SearchResult:
    """Return the result of a search from its trials and, if known, its request."""
    search_id = trials[0].search_id
    if search is None or search.base.lora is None or search.base.train is None:
        return SearchResult(search_id, tuple(trials), axes_seen(trials), _catalogued(trials[0].model))
    defaults = recipe_values(search.base.lora, search.base.train, search.base.quantization)
    axes, default = axes_of(search.space), search.base.fit_id
    return SearchResult(search_id, tuple(trials), axes, defaults, search.max_texts, search.objective, default)


def _catalogued(model: str) -> Mapping[str, Any]:
    """Return the recipe defaults of `model` in the packaged catalogue, or the general ones if it is unknown."""
    catalogue = load_catalogue()
    entry = catalogue.models.get(model)
    lora, train = catalogue.training.lora, catalogue.training.train
    if entry is not None and entry.family is not None:
        kind = catalogue.families[entry.family].kind
        head = entry.head or ("classification" if kind == "encoder" else "label-words")
        found = catalogue.fine_tuning(entry, kind, head, entry.size.num_params if entry.size else 0)
        lora, train = LoraDefaults.model_validate(found[0]), TrainDefaults.model_validate(found[1])
    return recipe_values(lora, train, entry.quantization if entry else "none")


def winner(
    trials: Sequence[SearchTrial], objective: Objective = "quality", default: str | None = None
) -> SearchTrial | None:
    """Return the winner of a search; None if no trial has a score. `default` is the fit id of the default recipe.

    Objective quality: the trial with the best validation score; on ties one that was trained to its end, then the
    cheaper one. A training keeps the step with the best validation score, so training a stopped or interrupted trial to
    its end could only raise its score: such a trial may win, and its confirmation trains it in full. The default
    recipe, once trained to its end, wins unless another trial is better by more than TOLERANCE, because a smaller lead
    of the best of many trials may be luck (Breiman et al. 1984 prefer the simpler model for the same reason). It also
    wins if no trial was trained to its end: a configuration that learns sooner need not end better.

    Objective memory: of the trials whose score is within TOLERANCE of the best and whose memory is known, the one with
    the lowest memory. It is on the Pareto front, or equal to a trial on it.
    """
    scored = [t for t in trials if t.status != "failed" and t.score is not None]

    def quality(trial: SearchTrial) -> tuple[float, bool, int, str]:
        score = sign(trial.metric) * (trial.score or 0.0)
        return score, trial.status == "finished", -trial.texts_trained, trial.fit_id

    best = max(scored, key=quality, default=None)
    if best is None:
        return None
    if objective == "quality":
        known = next((t for t in scored if t.fit_id == default), None)
        if known is None or not any(t.status == "finished" for t in scored):
            return known or best
        return known if known.status == "finished" and not beats(quality(best)[0], quality(known)[0]) else best
    near = [t for t in scored if t.memory_bytes and quality(t)[0] >= quality(best)[0] - TOLERANCE]
    return min(near, key=lambda t: (t.memory_bytes or 0, *(-q for q in quality(t)[:3]), t.fit_id), default=best)


def beats(score: float, default: float) -> bool:
    """Return whether `score` replaces the default recipe's: it is higher by more than TOLERANCE.

    Higher is better in both; a score such as nll is passed with its sign changed.
    """
    return score > default + TOLERANCE


def challenger(trials: Sequence[SearchTrial], objective: Objective, default: str) -> SearchTrial | None:
    """Return the winner without the default recipe; None if no other trial has a score."""
    return winner([t for t in trials if t.fit_id != default], objective)


def front(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    """Return the Pareto front of score and memory, least memory first.

    Trials without a score or with unknown memory are left out. Of equal trials one is kept.
    """
    known = [t for t in trials if t.status != "failed" and t.score is not None and t.memory_bytes]
    ordered = sorted(known, key=lambda t: (t.memory_bytes or 0, -sign(t.metric) * (t.score or 0.0), t.fit_id))
    found: list[SearchTrial] = []
    for trial in ordered:
        direction = sign(trial.metric)
        if not found or direction * (trial.score or 0.0) > direction * (found[-1].score or 0.0):
            found.append(trial)
    return found


def tuned_name(model: str, search_id: str) -> str:
    """Return the leaderboard name of the winner of a search for `model`; each search has its own."""
    name = f"{model}-tuned-{search_id[:6]}"
    try:
        return checked_name(name, parts=2)  # as for a hub id
    except ValueError:  # the path of a folder
        return f"{folder_name(model).rpartition('/')[2]}-tuned-{search_id[:6]}"


def tuned_entry(
    search: Search,
    best: SearchTrial,
    num_tried: int,
    catalogue: Catalogue,
    spec: BenchmarkSpec,
    *,
    default_wins: bool = False,
) -> ModelEntry:
    """Return the catalogue entry of the trial `best`: its model's, changed by the options of `spec` and the search.

    With `default_wins`, the default recipe is the winner and `best` the best of the others.
    """
    assert search.base.lora is not None
    entry = catalogue.model(best.model)
    changed: dict[str, dict[str, Any]] = overrides({**search.fixed, **best.configuration}, search.base.lora)
    return entry.model_copy(
        update={
            "lora": merge(merge(entry.lora, spec.lora), changed["lora"]),
            "train": merge(merge(entry.train, spec.train), changed["train"]),
            "text": merge(entry.text, spec.text),
            "quantization": best.configuration.get(QUANTIZATION, search.base.quantization),
            "description": f"{best.model} with the best of {num_tried} configurations of {best.space} "
            f"on {best.dataset}'s validation split"
            + (", where the default recipe stays the pick" if default_wins else ""),
        }
    )


def tested_before(store: Store, search: Search, trials: Sequence[SearchTrial]) -> set[str]:
    """Return the fit ids of `trials` whose recipe was evaluated on the test split as the winner of the search."""
    fits, evaluations = store.records("fits"), store.records("evaluations")
    if not len(fits) or not len(evaluations):
        return set()
    name = tuned_name(search.base.model.name, search.search_id)
    rows = fits[(fits["model"] == name) & fits["fit_id"].isin(set(evaluations["fit_id"]))]
    tested = set[str]()
    for text in rows["spec"]:
        try:
            spec = FitSpec.model_validate_json(text)
        except ValidationError:  # written by another version, so not by a search of this one
            continue
        tested.add(spec.model_copy(update={"model": search.base.model, "seeds": search.base.seeds}).fit_id)
    return tested & {t.fit_id for t in trials}


def evaluated(trials: Sequence[TrialSpec], seed: int, store: Store) -> list[TrialSpec]:
    """Return the trials with this seed whose evaluation is in `store`.

    A trial that failed before is not tried again only to be measured.
    """
    there = store.ids("evaluations")
    return [trial for trial in trials if trial.fit.seeds.init == seed and trial.evaluate.evaluation_id in there]
