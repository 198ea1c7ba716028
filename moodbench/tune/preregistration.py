"""Preregistration of a search in searches/ID/request.json: written once, before the search begins, and never changed.

It fixes the seeds of the confirmation and the warm start: the best configurations of earlier searches, tried first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moodbench.config.search_space import Configuration, SearchSpace, inside, recipe_values
from moodbench.errors import StoreError, UsageError
from moodbench.store import Store
from moodbench.tune.search import Search, WarmPoint
from moodbench.tune.trials import search_trials, sign

REQUEST = "request.json"
DEFAULT_NUM_SEEDS = 3
NUM_WARM_POINTS = 3


def register(store: Store, search: Search, num_seeds: int) -> Search:
    """Register `search` unless it is, and return it with its registered warm start and confirmation seeds.

    `num_seeds` 0 postpones the confirmation and registers DEFAULT_NUM_SEEDS seeds.

    Raises:
        UsageError: If `num_seeds` differs from the registered number: choosing it after the scores are known would be a
            second try.
        StoreError: If the registration is damaged or from another version.
    """
    known = registered(store, search.search_id)
    if known is None:
        warm = warm_points(store, search) if search.warm_start and not search_trials(store, search.search_id) else ()
        seeds = tuple(range(num_seeds or DEFAULT_NUM_SEEDS))
        _write(store, search.model_copy(update={"warm_points": warm, "confirmation_seeds": seeds}))
        known = registered(store, search.search_id)
        assert known is not None
    num_known = len(known.confirmation_seeds)
    if num_seeds not in (0, num_known):
        raise UsageError(
            f"--seeds {num_seeds}: this search was registered with the {num_known} seeds "
            f"{', '.join(map(str, known.confirmation_seeds))} before it began; allowed are --seeds "
            f"{num_known}, and 0 to leave the confirmation out"
        )
    return search.model_copy(update={"warm_points": known.warm_points, "confirmation_seeds": known.confirmation_seeds})


def registered(store: Store, search_id: str) -> Search | None:
    """Return the search as its first command registered it; None if there is no registration.

    Raises: StoreError if the file is damaged or from another version.
    """
    key = f"searches/{search_id}/{REQUEST}"
    if key not in store.location.keys(f"searches/{search_id}"):
        return None
    try:
        return Search.model_validate_json(store.location.local(key).read_text("utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"{store.uri}/{key}: {where}: {first['msg']}; the file is no request of a search, or of another version. "
            "Move it away, and the next command registers the search anew"
        ) from error


def _write(store: Store, search: Search) -> None:
    with store.attempt() as attempt:
        path = Path(attempt.folder) / REQUEST
        path.write_text(search.model_dump_json(indent=1), "utf-8")
        store.location.create(path, f"searches/{search.search_id}/{REQUEST}")


def warm_points(store: Store, search: Search) -> tuple[WarmPoint, ...]:
    """Return the best finished configurations of earlier searches of the model inside the new space, at most three.

    Each search contributes its best before any contributes its second best, because scores of two searches cannot be
    compared; within a round, searches on the same dataset come first. Empty for a grid, which has its own points.
    """
    base = search.base
    if search.searcher == "grid" or base.lora is None or base.train is None:
        return ()
    defaults = recipe_values(base.lora, base.train, base.quantization)
    by_search: dict[str, list[WarmPoint]] = {}
    for trial in search_trials(store):
        if trial.model != base.model.name or trial.search_id == search.search_id or trial.status != "finished":
            continue
        point = point_in(search.space, trial.configuration, defaults)
        if point is not None and trial.score is not None:
            source = {name: getattr(trial, name) for name in ("search_id", "fit_id", "dataset", "metric", "score")}
            by_search.setdefault(trial.search_id, []).append(WarmPoint(configuration=point, **source))
    ranked: list[tuple[int, bool, str, WarmPoint]] = []
    for search_id, found in by_search.items():
        best_first = sorted(found, key=lambda each: (-sign(each.metric) * each.score, each.fit_id))
        ranked += [(rank, p.dataset != base.dataset.name, search_id, p) for rank, p in enumerate(best_first)]
    points: dict[str, WarmPoint] = {}
    for *_, warm in sorted(ranked, key=lambda each: each[:3]):
        points.setdefault(search.fit(warm.configuration).fit_id, warm)
    return tuple(points.values())[:NUM_WARM_POINTS]


def point_in(space: SearchSpace, configuration: Mapping[str, Any], defaults: Mapping[str, Any]) -> Configuration | None:
    """Return `configuration` as a point of `space`, or None if it lies outside.

    Parameters that it does not set have their value in `defaults`. Parameters that it sets but `space` does not search
    must equal their value there.
    """
    if any(defaults.get(name) != value for name, value in configuration.items() if name not in space.parameters):
        return None
    point = space.active({name: configuration.get(name, defaults[name]) for name in space.parameters})
    return point if all(inside(space.parameters[name], value) for name, value in point.items()) else None
