"""Ray Tune callback of a search: writes a proposal when a trial starts, a record when it ends, and the time spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from moodbench.config.search_space import Configuration
from moodbench.errors import MoodBenchError
from moodbench.store import Store
from moodbench.tune.records import SearchTrial, put_trial, sign
from moodbench.tune.request import SearchRequest
from moodbench.tune.searcher import members_of
from moodbench.tune.trainable import NOT_FINAL, committed_curve
from moodbench.tune.underway import Session, Spent, proposed, put_proposal

Tell = Callable[[Mapping[str, Any]], None]
MAX_UNFINISHED = 3
"""Number of configurations in a row that may end for external reasons before the search ends, as the next would too."""


def recorder(
    request: SearchRequest,
    store: Store,
    known: set[str],
    before: Spent,
    session: Session,
    left_s: float | None,
    tell: Tell,
) -> Any:
    """Return a Tune callback that writes the proposals and records of the search, and whose `halted` says when to stop.

    `tell` receives the event `trial_ended` with the trial, the number of trials and Ray's id of its node, and the event
    `trial_unfinished` with the fit id and the reason.
    """
    from ray import tune

    numbers = {fit_id: number for number, fit_id in enumerate(proposed(store, request.search_id))}

    class Recorder(tune.Callback):  # type: ignore[misc]
        problem: Exception | None = None
        over = False

        def __init__(self) -> None:
            self.curves: dict[str, list[tuple[int, float]]] = {}
            self.errors: dict[str, tuple[str, str]] = {}
            self.memory: dict[str, int | None] = {}
            self.nodes: dict[str, str] = {}
            self.num_unfinished = 0
            self.last_reason = ""

        def __reduce__(self) -> Any:
            # Tune pickles its callbacks for a restore that we never use: a search resumes from its own records.
            return tune.Callback, ()

        def halted(self) -> bool:
            """Return whether the search is over; trials that are cut off from then on get no record.

            It is over if the budget is spent, a record cannot be written, or too many configurations in a row ended for
            external reasons.
            """
            session.write()
            spent_all = left_s is not None and session.elapsed_s >= left_s
            self.over = self.over or spent_all or self.problem is not None or self.num_unfinished >= MAX_UNFINISHED
            return self.over

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            members = members_of(trial.config)
            for configuration in members:
                fit_id = request.fit(configuration).fit_id
                session.begin(fit_id, len(members))
                if fit_id not in numbers:
                    numbers[fit_id] = len(numbers)
                    active = request.space.active(configuration)
                    self._write(partial(put_proposal, store, request.search_id, numbers[fit_id], fit_id, active))
            session.write(now=True)

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            self.errors |= result["errors"]
            self.nodes[trial.trial_id] = result["node"]
            if result["raw_score"] is None:
                return
            self.memory[result["fit_id"]] = result["memory_bytes"]
            point, curve = (result["texts"], result["raw_score"]), self.curves.setdefault(result["fit_id"], [])
            if point not in curve:
                curve.append(point)
                session.reached(result["fit_id"], *point)
            session.write()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            for configuration in members_of(trial.config):
                self._ended(trial, configuration, None)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            lines = str(trial.get_error() or "failed").strip().splitlines()
            for configuration in members_of(trial.config):
                self._ended(trial, configuration, (NOT_FINAL, lines[-1]))

        def _ended(self, trial: Any, configuration: Configuration, error: tuple[str, str] | None) -> None:
            spec = request.fit(configuration)
            if spec.fit_id in known:
                return
            committed = store.record("fits", spec.fit_id)
            error = self.errors.get(spec.fit_id, error) if committed is None else None
            if error is not None and error[0] == NOT_FINAL:
                self.num_unfinished += 1
                self.last_reason = error[1]
                session.leave(spec.fit_id)
                tell({"event": "trial_unfinished", "fit_id": spec.fit_id, "detail": error[1], "over": self.halted()})
                return
            if self.over and committed is None and error is None:
                session.leave(spec.fit_id)
                return  # interrupted: the next command resumes it
            self.num_unfinished = 0
            known.add(spec.fit_id)
            curve, memory = tuple(sorted(self.curves.get(spec.fit_id, ()))), self.memory.get(spec.fit_id)
            if committed is not None:  # the reported curve is partial if a scheduler stopped the trial meanwhile
                curve = tuple(committed_curve(spec, committed))
                memory = None if memory is None else committed["train_peak_memory_bytes"]
            scores = [sign(request.metric) * score for _, score in curve]
            ended = SearchTrial(
                search_id=request.search_id,
                fit_id=spec.fit_id,
                model=spec.model.name,
                dataset=spec.dataset.name,
                space=request.space_name,
                configuration=request.space.active(configuration),
                status="failed" if error else "stopped" if committed is None else "finished",
                metric=request.metric,
                score=sign(request.metric) * max(scores) if scores else None,
                texts_trained=curve[-1][0] if curve else 0,
                curve=curve,
                train_time_s=session.end(spec.fit_id) + before.open.get(spec.fit_id, (0, 0.0))[1],
                elapsed_s=before.elapsed_s + session.elapsed_s,
                error=error[1] if error else None,
                memory_bytes=memory,
            )
            self._write(partial(put_trial, store, ended))
            session.write(now=True)
            node = self.nodes.get(trial.trial_id, "")
            tell({"event": "trial_ended", "trial": ended, "num_done": len(known), "node": node})

        def _write(self, write: Callable[[], None]) -> None:
            try:
                write()
            except (OSError, MoodBenchError) as problem:
                self.problem = problem

    return Recorder()


def halt_of(watched: Any) -> Any:
    """Return a Tune stopper that ends the search as soon as the recorder `watched` is halted."""
    from ray.tune.stopper import NoopStopper, Stopper

    class Halt(Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return bool(watched.halted())

        def __reduce__(self) -> Any:
            return NoopStopper, ()

    return Halt()
