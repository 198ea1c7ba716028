"""Searcher that proposes each configuration once, and several configurations as one trial where asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEMBERS = "members"
ASKS = 25
"""Number of repeated proposals after which a remaining point is enqueued."""
Point = dict[str, Any]


def members_of(config: Mapping[str, Any]) -> Sequence[Point]:
    """Return the configurations that a Ray Tune trial with this `config` trains."""
    found: Sequence[Point] = config[MEMBERS]
    return found


@dataclass(frozen=True)
class Known:
    """A configuration whose outcome is known."""

    configuration: Point
    fit_id: str
    values: Mapping[str, float] | None
    """Metric -> value; None if it failed."""


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
    """Return a Ray searcher whose trials hold `size` configurations of `inner` each, until `num_wanted` are known.

    `inner` is an OptunaSearch whose first points are those of `known`. A repeated proposal gets the known outcome, or
    that of the same configuration once its running trial ends. If `inner` only repeats itself, the next point of `left`
    is enqueued; in a finite space, `left` holds all points.
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
            # Tune pickles the searcher for a restore that we never use.
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
            """Do nothing: the searcher learns only from completed trials."""

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            outcomes = {} if error or result is None else dict(result.get("outcomes", ()))
            for fit_id in self.members.pop(trial_id, ()):
                values = self.ended[fit_id] = outcomes.get(fit_id)
                for name in self.running.pop(fit_id):
                    _tell(name, values)

        def save(self, checkpoint_path: str) -> None:
            """Do nothing: a search resumes from its own records."""

        def restore(self, checkpoint_path: str) -> None:
            """Do nothing: a search resumes from its own records."""

        def _fresh(self) -> Point | None:
            """Return a configuration that is neither known nor running, or None."""
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
