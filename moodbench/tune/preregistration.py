"""Registration of a search in searches/ID/request.json: written once, before the search begins, and never changed."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from moodbench.config.search_space import SearchSpace
from moodbench.errors import StoreError, UsageError
from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.tune.objectives import Objective
from moodbench.tune.records import search_trials
from moodbench.tune.request import SearcherName, SearchRequest
from moodbench.tune.schedulers import SchedulerName
from moodbench.tune.warm_start import WarmPoint, warm_points

REQUEST = "request.json"
DEFAULT_NUM_SEEDS = 3


class Registered(BaseModel):
    """A search as it was registered."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = 1
    search_id: str
    model: str
    dataset: str
    base: FitSpec
    """The default recipe with the search's own seeds; configurations change lora, train and quantization."""
    space_name: str
    space: SearchSpace
    """The space for this model on this device."""
    metric: str
    """Name of the validation score."""
    searcher: SearcherName
    scheduler: SchedulerName
    objective: Objective = "quality"
    """Objective by which the winner is chosen."""
    num_trials: int
    """Number of configurations that the first command requested; later commands may have requested more."""
    budget_s: float | None
    """Budget of the first command; None for no limit."""
    num_train: int
    """Number of texts in the training split after subsampling."""
    max_texts: int
    """Number of texts processed in the longest possible training, repetitions included."""
    num_grid: int
    """Number of points of the full grid: every value of lists, four values per range."""
    grid_texts: int
    """Number of texts processed if every point of that grid is trained to its end."""
    warm_start: tuple[WarmPoint, ...] = ()
    """Configurations of earlier searches in the store that are tried first."""
    confirmation_seeds: tuple[int, ...]
    """Seeds with which the winner and the default recipe are retrained and compared on the test split."""


def register(store: Store, request: SearchRequest, num_seeds: int) -> Registered:
    """Return the registered search; on its first command, register it.

    `num_seeds` 0 postpones the confirmation and registers DEFAULT_NUM_SEEDS seeds.

    Raises:
        UsageError: If `num_seeds` differs from the registered number: choosing it after the scores are known would be a
            second try.
    """
    known = registered(store, request.search_id)
    if known is None:
        warm = warm_points(store, request) if request.warm_start and not search_trials(store, request.search_id) else ()
        _write(store, _of(request, num_seeds or DEFAULT_NUM_SEEDS, warm))
        known = registered(store, request.search_id)
        assert known is not None
    if num_seeds not in (0, len(known.confirmation_seeds)):
        raise UsageError(
            f"--seeds {num_seeds}: this search was registered with the {len(known.confirmation_seeds)} seeds "
            f"{', '.join(map(str, known.confirmation_seeds))} before it began; allowed are --seeds "
            f"{len(known.confirmation_seeds)}, and 0 to leave the confirmation out"
        )
    return known


def registered(store: Store, search_id: str) -> Registered | None:
    """Return the registered search with that id; None if it was not registered, as in older versions.

    Raises:
        StoreError: If the file is damaged or from a newer version.
    """
    key = f"searches/{search_id}/{REQUEST}"
    if key not in store.location.keys(f"searches/{search_id}"):
        return None
    try:
        return Registered.model_validate_json(store.location.local(key).read_text("utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"{store.uri}/{key}: {where}: {first['msg']}; the file is no request of a search, or of a newer version. "
            "Move it away, and the next command registers the search anew"
        ) from error


def _of(request: SearchRequest, num_seeds: int, warm: tuple[WarmPoint, ...]) -> Registered:
    return Registered(
        search_id=request.search_id,
        model=request.base.model.name,
        dataset=request.base.dataset.name,
        base=request.base,
        space_name=request.space_name,
        space=request.space,
        metric=request.metric,
        searcher=request.searcher,
        scheduler=request.scheduler,
        objective=request.objective,
        num_trials=request.num_wanted,
        budget_s=request.budget_s,
        num_train=request.num_train,
        max_texts=request.max_texts,
        num_grid=request.num_grid,
        grid_texts=request.grid_texts,
        warm_start=warm,
        confirmation_seeds=tuple(range(num_seeds)),
    )


def _write(store: Store, value: Registered) -> None:
    with store.attempt() as attempt:
        path = Path(attempt.folder) / REQUEST
        path.write_text(value.model_dump_json(indent=1), "utf-8")
        store.location.create(path, f"searches/{value.search_id}/{REQUEST}")
