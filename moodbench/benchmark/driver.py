"""Running a plan: jobs to an executor in the order of the policy, their events to the listeners and the store."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moodbench.execution.executor import Command, Executor, Isolation, Outcome, Progress
from moodbench.plan import Plan, PlannedTrial
from moodbench.schedule import Capacity, may_retry, startable
from moodbench.spec import TrialSpec
from moodbench.store import Store
from moodbench.worker import EvaluatePhase, FitPhase, Job, MeasurePhase, Phase

POLL_S = 5.0
"""Longest wait for news; a busier driver would disturb what it measures."""
Listener = Callable[[Mapping[str, Any]], None]
"""Receives every event of a run: run_started, job_started, started, progress, committed, skipped, failed, job_ended."""


@dataclass(frozen=True)
class RunJob:
    """One worker process: the packed phases (fit, evaluate) of a trial, or its measurement."""

    trial: TrialSpec
    command: Command
    attempts: int = 1

    @property
    def num_cpus(self) -> int:
        """Processors it uses."""
        return self.command.num_cpus

    @property
    def exclusive(self) -> bool:
        """True for a measurement."""
        return self.command.exclusive


@dataclass
class RunSummary:
    """How a run ended."""

    run_id: str
    num_committed: int = 0
    failures: list[str] = field(default_factory=list)
    """One line per trial that has not all its records, with the reason."""


def run_plan(
    plan: Plan,
    store: Store,
    executor: Executor,
    *,
    num_cpus: int,
    preface: Sequence[Mapping[str, Any]] = (),
    listen: Listener,
) -> RunSummary:
    """What became of `plan`; everything committed stays, whatever happens to the rest.

    `num_cpus` processors are shared by packed jobs, one each. `listen` hears every event; the store keeps them too.
    Events of `preface` come first after run_started.
    """
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    summary = RunSummary(run_id)

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] == "committed":
            summary.num_committed += 1
        store.write_event_line(run_id, {"at": datetime.now(UTC).isoformat(), **event})
        listen(event)

    def hear(progress: Progress) -> None:
        tell({**progress.event, "job": progress.key, "trial": running[progress.key].trial.label})

    waiting: list[RunJob] = []
    for planned in plan.trials:
        waiting += _jobs(planned, run_id, store.uri, executor.isolation)
    running: dict[str, RunJob] = {}
    tell({"event": "run_started", "run_id": run_id, "num_jobs": len(waiting), "num_done": plan.num_phases_done})
    for event in preface:
        tell(event)
    while waiting or running:
        for job in startable(waiting, list(running.values()), Capacity(num_cpus)):
            waiting.remove(job)
            running[job.command.key] = job
            tell({"event": "job_started", "job": job.command.key, "trial": job.trial.label})
            executor.start(job.command)
        for ended in executor.poll(POLL_S, hear):
            job = running.pop(ended.key)
            waiting = _after(job, ended.outcome, waiting, summary, tell)
    tell({"event": "run_ended", "run_id": run_id, "num_failed": len(summary.failures)})
    return summary


def _after(
    job: RunJob, outcome: Outcome, waiting: Sequence[RunJob], summary: RunSummary, tell: Listener
) -> list[RunJob]:
    """The jobs that wait after `job` ended so: itself again after a machine's fault, without its measurement after its own."""
    if outcome.kind == "ok":
        tell({"event": "job_ended", "job": job.command.key, "trial": job.trial.label, "outcome": "ok"})
        return list(waiting)
    retry = may_retry(outcome.kind, job.attempts)
    tell(
        {
            "event": "job_ended",
            "job": job.command.key,
            "trial": job.trial.label,
            "outcome": outcome.kind,
            "detail": outcome.detail,
            "retry": retry,
        }
    )
    if retry:
        return [RunJob(job.trial, job.command, job.attempts + 1), *waiting]
    reason = outcome.detail.splitlines()[-1] if outcome.detail else "see its record in failures/"
    summary.failures.append(f"{job.trial.label}: {outcome.kind}: {reason}")
    if job.exclusive:
        return list(waiting)
    return [other for other in waiting if other.trial is not job.trial]


def _jobs(planned: PlannedTrial, run_id: str, store: str, isolation: Isolation) -> list[RunJob]:
    """The worker processes that make the missing phases of one trial."""
    trial = planned.trial
    jobs: list[RunJob] = []
    packed: list[Phase] = []
    if "fit" in planned.missing:
        packed.append(FitPhase(spec=trial.fit))
    if "evaluate" in planned.missing:
        packed.append(EvaluatePhase(spec=trial.evaluate))
    if packed:
        job = Job(
            run_id=run_id,
            store=store,
            phases=tuple(packed),
            device=trial.measure.device,
            num_threads=1,
            isolation=isolation,
        )
        jobs.append(RunJob(trial, _command(f"{trial.fit.fit_id}-train", job, num_cpus=1, exclusive=False)))
    if "measure" in planned.missing:
        job = Job(
            run_id=run_id,
            store=store,
            phases=(MeasurePhase(spec=trial.measure),),
            device=trial.measure.device,
            num_threads=trial.measure.num_threads,
            isolation=isolation,
        )
        cpus = trial.measure.num_threads
        jobs.append(RunJob(trial, _command(f"{trial.fit.fit_id}-measure", job, num_cpus=cpus, exclusive=True)))
    return jobs


def _command(key: str, job: Job, *, num_cpus: int, exclusive: bool) -> Command:
    argv = (sys.executable, "-m", "moodbench.worker")
    return Command(key, argv, job.model_dump_json(), num_cpus, exclusive)
