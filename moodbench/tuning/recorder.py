"""What a search writes while Ray Tune runs: a proposal when a trial starts, a record when it ends, the time it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from moodbench.config.search_space import Configuration
from moodbench.errors import MoodBenchError
from moodbench.store import Store
from moodbench.tuning.proposals import members_of
from moodbench.tuning.records import SearchTrial, put_trial, sign
from moodbench.tuning.request import SearchRequest
from moodbench.tuning.slot import NOT_FINAL, committed_curve
from moodbench.tuning.underway import Session, Spent, proposed, put_proposal

Tell = Callable[[Mapping[str, Any]], None]
MAX_UNFINISHED = 3
"""Configurations in a row that ended for reasons outside of them; then the search ends, as the next would end so too."""


def recorder(
    request: SearchRequest,
    store: Store,
    known: set[str],
    before: Spent,
    session: Session,
    left_s: float | None,
    tell: Tell,
) -> Any:
    """A Tune callback that writes proposals and records of the search, and says with `halted` when it is over.

    `tell` hears `trial_ended` with the trial, how many there are and Ray's id of its node, and `trial_unfinished` with the fit and the reason.
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
            # Tune saves its settings for a restore that we never ask of it: our own records are what goes on.
            return tune.Callback, ()

        def halted(self) -> bool:
            """Whether the budget is spent or nothing can be recorded any more; from then on what is cut off has no record."""
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
                return  # cut off: the next command goes on with it
            self.num_unfinished = 0
            known.add(spec.fit_id)
            curve, memory = tuple(sorted(self.curves.get(spec.fit_id, ()))), self.memory.get(spec.fit_id)
            if committed is not None:  # a scheduler that stops it while it is told hears but the beginning
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
    """A Tune stopper that ends the search as soon as the recorder `watched` says so."""
    from ray.tune.stopper import NoopStopper, Stopper

    class Halt(Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return bool(watched.halted())

        def __reduce__(self) -> Any:
            return NoopStopper, ()

    return Halt()
