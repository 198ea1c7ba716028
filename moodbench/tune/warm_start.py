"""Warm start: the best configurations of earlier searches inside a new search's space, tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from moodbench.config.search_space import Configuration, SearchSpace, inside, recipe_values
from moodbench.store import Store
from moodbench.tune.records import SearchTrial, search_trials, sign
from moodbench.tune.request import SearchRequest

NUM_POINTS = 3


class WarmPoint(BaseModel):
    """A configuration of an earlier search that a new search tries first, with its source."""

    model_config = ConfigDict(frozen=True)

    configuration: dict[str, Any]
    """As a point of the new space."""
    search_id: str
    fit_id: str
    dataset: str
    metric: str
    score: float


def warm_points(store: Store, request: SearchRequest) -> tuple[WarmPoint, ...]:
    """Return the best finished configurations of earlier searches of the model inside the new space, at most three.

    Each search contributes its best before any contributes its second best, because scores of two searches cannot be
    compared; within a round, searches on the same dataset come first. Empty for a grid, which has its own points.
    """
    base = request.base
    if request.searcher == "grid" or base.lora is None or base.train is None:
        return ()
    defaults = recipe_values(base.lora, base.train, base.quantization)
    by_search: dict[str, list[tuple[SearchTrial, Configuration]]] = {}
    for trial in search_trials(store):
        if trial.model != base.model.name or trial.search_id == request.search_id or trial.status != "finished":
            continue
        point = point_in(request.space, trial.configuration, defaults)
        if point is not None and trial.score is not None:
            by_search.setdefault(trial.search_id, []).append((trial, point))
    ranked: list[tuple[bool, int, str, SearchTrial, Configuration]] = []
    for search_id, found in by_search.items():
        best_first = sorted(found, key=lambda each: (-sign(each[0].metric) * (each[0].score or 0.0), each[0].fit_id))
        for place, (trial, point) in enumerate(best_first):
            ranked.append((trial.dataset != base.dataset.name, place, search_id, trial, point))
    ranked.sort(key=lambda each: (each[1], each[0], each[2]))
    return _first_unlike(request, [(trial, point) for *_, trial, point in ranked])


def point_in(space: SearchSpace, configuration: Mapping[str, Any], defaults: Mapping[str, Any]) -> Configuration | None:
    """Return `configuration` as a point of `space`, or None if it lies outside.

    Parameters that it does not set have their value in `defaults`. Parameters that it sets but `space` does not search
    must equal their value there.
    """
    if any(defaults.get(name) != value for name, value in configuration.items() if name not in space.parameters):
        return None
    point = space.active({name: configuration.get(name, defaults[name]) for name in space.parameters})
    return point if all(inside(space.parameters[name], value) for name, value in point.items()) else None


def _first_unlike(request: SearchRequest, found: Sequence[tuple[SearchTrial, Configuration]]) -> tuple[WarmPoint, ...]:
    points: dict[str, WarmPoint] = {}
    for trial, point in found:
        assert trial.score is not None
        made = WarmPoint(
            configuration=point,
            search_id=trial.search_id,
            fit_id=trial.fit_id,
            dataset=trial.dataset,
            metric=trial.metric,
            score=trial.score,
        )
        points.setdefault(request.fit(point).fit_id, made)
    return tuple(points.values())[:NUM_POINTS]
