"""What a search tries next: a searcher's proposals, each configuration once, several of them as one trial where asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEMBERS = "members"
ASKS = 25
"""Times that the searcher may propose what was proposed before, until a point that is left is put before it."""
Point = dict[str, Any]


def members_of(config: Mapping[str, Any]) -> Sequence[Point]:
    """The configurations that a trial's `config` stands for."""
    found: Sequence[Point] = config[MEMBERS]
    return found


@dataclass(frozen=True)
class Known:
    """A configuration whose outcome is there already."""

    configuration: Point
    fit_id: str
    values: Mapping[str, float] | None
    """Metric -> value; None for one that failed."""


def proposals(
    inner: Any,
    known: Sequence[Known],
    fit_id_of: Callable[[Point], str],
    *,
    size: int,
    num_wanted: int,
    left: Iterator[Point],
    mode: str,
) -> Any:
    """A Ray searcher whose trials are `size` configurations of `inner` each, until `num_wanted` are known.

    `inner` is an OptunaSearch whose first points are those of `known`. What it proposes again is answered from what is
    known, or waits with the equal one that runs; when it does nothing else, the next of `left`, in a finite space all its
    points, is put before it.
    """
    from ray.tune.search import Searcher

    class Proposals(Searcher):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(metric="score", mode=mode)
            self.ended: dict[str, Mapping[str, float | None] | None] = {}
            self.running: dict[str, list[str]] = {}
            self.members: dict[str, list[str]] = {}
            self.num_asked = 0
            for each in known:
                name = self._name()
                inner.suggest(name)
                self.ended[each.fit_id] = each.values
                _tell(name, each.values)

        def __reduce__(self) -> Any:
            # Tune saves its settings for a restore that we never ask of it.
            return Searcher, ()

        def suggest(self, trial_id: str) -> Any:
            room = min(size, num_wanted - len(self.ended) - len(self.running))
            found: list[Point] = []
            while len(found) < room and (point := self._fresh()) is not None:
                found.append(point)
            if not found:
                return None if self.running else Searcher.FINISHED
            self.members[trial_id] = [fit_id_of(point) for point in found]
            return {MEMBERS: found}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """Nothing; a searcher learns from ends alone."""

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            outcomes = {} if error or result is None else dict(result.get("outcomes", ()))
            for fit_id in self.members.pop(trial_id, ()):
                values = self.ended[fit_id] = outcomes.get(fit_id)
                for name in self.running.pop(fit_id):
                    _tell(name, values)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: a search goes on from its own records."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: a search goes on from its own records."""

        def _fresh(self) -> Point | None:
            """A configuration that is neither known nor running, or None."""
            for number in range(2 * ASKS):
                if number >= ASKS:
                    point = next((p for p in left if not self._met(fit_id_of(p))), None)
                    if point is None:
                        return None
                    inner._ot_study.enqueue_trial(point)
                name = self._name()
                proposed = inner.suggest(name)
                fit_id = fit_id_of(proposed)
                if fit_id in self.ended:
                    _tell(name, self.ended[fit_id])
                elif fit_id in self.running:
                    self.running[fit_id].append(name)
                else:
                    self.running[fit_id] = [name]
                    return dict(proposed)
            return None

        def _met(self, fit_id: str) -> bool:
            return fit_id in self.ended or fit_id in self.running

        def _name(self) -> str:
            self.num_asked += 1
            return f"proposal-{self.num_asked}"

    wanted = inner.metric if isinstance(inner.metric, list) else [inner.metric]

    def _tell(name: str, values: Mapping[str, float | None] | None) -> None:
        told = None if values is None or any(values.get(metric) is None for metric in wanted) else dict(values)
        inner.on_trial_complete(name, told, error=told is None)

    return Proposals()
