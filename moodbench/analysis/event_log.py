"""Progress of a run, read from its event log: what runs, how far it is, its ETA, and what failed.

Any reader of the store can read the log while the run is active; Ray is not needed. Unknown events are ignored, and an
incomplete line is left for the next read.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from moodbench.store import Store

STALLED_AFTER = timedelta(minutes=2)
"""Silence after which a job is called stalled, if it also exceeds 3 times its longest pause so far."""
MOST_LOGS = 20
"""Number of newest logs that are searched for active runs."""
NODE_NEWS = {
    "node_left": "left the cluster",
    "node_refused": "gets no work",
    "node_quarantined": "failed twice in a row and gets nothing more while others will do",
}
"""Event of a node to what happened to the node."""
JobState = Literal["running", "stalled", "retrying", "done", "skipped", "failed", "stopped"]


@dataclass
class Job:
    """The current phase of one trial."""

    trial: str
    phase: str
    state: JobState
    started: datetime
    last_event: datetime
    ended: datetime | None = None
    step: int = 0
    num_steps: int = 0
    losses: list[float] = field(default_factory=list)
    error: str = ""
    error_kind: str = ""
    """Class of the error, without its message, which may quote a text."""
    node: str = ""
    longest_pause: timedelta = timedelta(0)

    @property
    def share(self) -> float | None:
        """Completed share of the phase, 0 to 1; None where unknown."""
        if self.state in ("done", "skipped"):
            return 1.0
        return min(self.step / self.num_steps, 1.0) if self.num_steps else None


@dataclass
class RunProgress:
    """State of a run according to its log, as of `now`."""

    run_id: str
    now: datetime
    started: datetime
    last_event: datetime
    """Time of the last event."""
    ended: datetime | None = None
    num_jobs: int = 0
    num_done_before: int = 0
    """Number of phases that were in the store when the run began."""
    num_jobs_ended: int = 0
    num_failed: int = 0
    jobs_by_phase: dict[tuple[str, str], Job] = field(default_factory=dict)
    """The phases that began, in order, by trial and phase."""
    last_error: str = ""
    last_error_kind: str = ""
    """The last error without its message, which may quote a text."""
    last_error_trial: str = ""
    cancelled: bool = False
    """Whether the run ended because a user requested it."""
    last_state: Mapping[str, Any] = field(default_factory=dict)
    """The last `state` event: num_running, num_in_turns, num_queued, blocked_on (resource to number of waiting jobs)
    and eta_s."""
    nodes: dict[str, str] = field(default_factory=dict)
    """Description of the state of each node."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The phases that began, in order."""
        return tuple(self.jobs_by_phase.values())

    @property
    def is_active(self) -> bool:
        """Whether the run has not ended and has had a recent event."""
        return self.ended is None and self.now - self.last_event < 5 * STALLED_AFTER

    def remaining_s(self, job: Job) -> tuple[float, float] | None:
        """Return the lowest and highest ETA of a running job in seconds, None where there is no basis.

        Based on its own pace, and on the phases of the same name and model that ended in this run.
        """
        if job.state != "running":
            return None
        elapsed = (self.now - job.started).total_seconds()
        estimates = [elapsed / job.step * (job.num_steps - job.step)] if job.step and job.num_steps else []
        model = job.trial.split(" · ")[0]
        ended = [j for j in self.jobs if j.state == "done" and j.phase == job.phase and j.ended is not None]
        similar = [j for j in ended if j.trial.split(" · ")[0] == model]
        estimates += [max((j.ended - j.started).total_seconds() - elapsed, 0.0) for j in similar if j.ended]
        return (min(estimates), max(estimates)) if estimates else None

    def remaining_run_s(self) -> tuple[float, float | None] | None:
        """Return the lowest and highest ETA of the whole run in seconds, None where there is no basis.

        The lowest is the driver's, less the time since it was made; the driver knows the size of what is left. Where it
        has none, the pace of the jobs that have ended counts. The width is two standard errors of the jobs' times; the
        highest is None where fewer than two jobs have ended.
        """
        if self.ended is not None:
            return None
        lengths = [(j.ended - j.started).total_seconds() for j in self.jobs if j.state == "done" and j.ended]
        spread = None
        if len(lengths) > 1 and sum(lengths) > 0:
            spread = 1 + 2 * statistics.stdev(lengths) / statistics.mean(lengths) / len(lengths) ** 0.5
        eta_s = self.last_state.get("eta_s")
        if self.is_active and isinstance(eta_s, (int, float)):
            low = max(eta_s - (self.now - self.last_state["time"]).total_seconds(), 0.0)
            return low, None if spread is None else low * spread
        left = self.num_jobs - self.num_jobs_ended
        if spread is None or not self.num_jobs_ended or left <= 0:
            return None
        middle = (self.now - self.started).total_seconds() / self.num_jobs_ended * left
        return middle / spread, middle * spread


def current_runs(store: Store, now: datetime | None = None) -> list[RunProgress]:
    """Return the newest run of `store` and every other active run, newest first."""
    keys = sorted(key for key in store.location.keys("events") if key.endswith(".jsonl"))[-MOST_LOGS:]
    now = now or datetime.now(UTC)
    runs = []
    filesystem, root = store.location.filesystem()
    for key in reversed(keys):
        with filesystem.open_input_stream(f"{root}/{key}") as stream:
            text = stream.read().decode("utf-8", "replace")
        runs.append(follow(key.rpartition("/")[2].removesuffix(".jsonl"), _events(text), now))
    begun = [run for run in runs if run is not None]
    return [run for place, run in enumerate(begun) if place == 0 or run.is_active]


def follow(run_id: str, events: Iterable[Mapping[str, Any]], now: datetime) -> RunProgress | None:
    """Return the run after these `events`, as of `now`; None where they do not include its beginning."""
    listed = list(events)
    begun = [event["time"] for event in listed if event["event"] == "run_started"]
    if not begun:
        return None
    run = RunProgress(run_id, now, started=begun[-1], last_event=begun[-1])
    for event in listed:
        _apply(event, run)
    for job in run.jobs:
        if job.state == "running":
            silence = now - job.last_event
            if run.ended is not None or silence > 5 * STALLED_AFTER:
                job.state = "stopped"
            elif silence > max(STALLED_AFTER, 3 * job.longest_pause):
                job.state = "stalled"
    return run


def _apply(event: Mapping[str, Any], run: RunProgress) -> None:
    at = event["time"]
    run.last_event = max(run.last_event, at)
    trial, phase = str(event.get("trial", "")), str(event.get("phase", ""))
    match event["event"]:
        case "run_started":
            run.num_jobs, run.num_done_before = int(event.get("num_jobs", 0)), int(event.get("num_done", 0))
            run.nodes = {str(node.get("name")): _cores(node) for node in event.get("nodes") or ()}
        case "run_ended":
            run.ended, run.cancelled = at, event.get("cancelled") is True
        case "state":
            run.last_state = event
        case "node_joined":
            run.nodes[str(event.get("node"))] = "joined"
        case name if name in NODE_NEWS:
            has_reason = event.get("detail") and name != "node_quarantined"  # its detail is the last output of a trial
            run.nodes[str(event.get("node"))] = NODE_NEWS[name] + (f": {event['detail']}" if has_reason else "")
        case "started":
            run.jobs_by_phase[trial, phase] = Job(trial, phase, "running", at, at, node=str(event.get("node", "")))
        case "job_ended":
            _end_job(event, trial, run)
        case name if (trial, phase) in run.jobs_by_phase:
            job = run.jobs_by_phase[trial, phase]
            _update(job, name, event, at)
            if name == "failed":
                run.last_error_trial, run.last_error_kind = trial, f"{trial}: {phase}: {job.error_kind}"
                run.last_error = f"{trial}: {phase}: {event.get('error', '')}"


def _end_job(event: Mapping[str, Any], trial: str, run: RunProgress) -> None:
    """Count a job that ended; unless it succeeded, end the running phases of its trial with its error."""
    is_retried = bool(event.get("retry"))
    run.num_jobs_ended += not is_retried
    if event.get("outcome") == "ok":
        return
    run.num_failed += not is_retried
    run.last_error_trial, run.last_error_kind = trial, f"{trial}: {event.get('outcome')}"
    run.last_error = f"{run.last_error_kind}: {_last_line(event.get('detail'))}"
    for job in run.jobs:
        if job.trial == trial and job.state == "running":
            job.state = "retrying" if is_retried else "failed"
            job.ended = job.last_event = event["time"]
            job.error, job.error_kind = job.error or run.last_error, job.error_kind or run.last_error_kind


def _cores(node: Mapping[str, Any]) -> str:
    cores = node.get("num_cpus")
    return f"{cores:g} cores" if isinstance(cores, (int, float)) else "there"


def _update(job: Job, name: str, event: Mapping[str, Any], at: datetime) -> None:
    job.longest_pause = max(job.longest_pause, at - job.last_event)
    job.last_event = at
    if name == "progress":
        job.step, job.num_steps = int(event.get("step", job.step)), int(event.get("num_steps", job.num_steps))
        if event.get("loss") is not None:
            job.losses.append(float(event["loss"]))
    elif name in ("committed", "skipped"):
        job.state, job.ended = ("done" if name == "committed" else "skipped"), at
    elif name == "failed":
        job.state, job.ended, job.error = "failed", at, str(event.get("error", ""))
        job.error_kind = _class_of(job.error)


def _events(text: str) -> Iterable[dict[str, Any]]:
    """Yield the complete lines of a log that are events, with `time` as a datetime."""
    for line in text.splitlines():
        try:
            event = json.loads(line)
            yield {**event, "event": str(event["event"]), "time": datetime.fromisoformat(event["at"])}
        except (ValueError, KeyError, TypeError):
            continue


def dataset_of(trial: str) -> str:
    """Return the dataset in the label of a trial; empty where the label names none."""
    parts = trial.split(" · ")
    return parts[1] if len(parts) > 2 else ""


def _class_of(error: str) -> str:
    """Return the class name before the message of an error."""
    name = error.partition(":")[0]
    return name if name.isidentifier() else "error"


def _last_line(detail: Any) -> str:
    lines = str(detail or "").strip().splitlines()
    return lines[-1] if lines else "see its record in failures/"
