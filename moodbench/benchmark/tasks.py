"""Tasks of a plan for the scheduler, and the command of a worker process for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moodbench.benchmark.plan import Plan, PlannedTrial, relative_work
from moodbench.estimate import PhaseEstimate, TrialEstimate
from moodbench.runtime.executor import Command, Isolation
from moodbench.schedule import Need, Node, Task
from moodbench.spec import TrialSpec
from moodbench.spec.job import EvaluatePhase, FitPhase, Job, MeasurePhase, Phase

Estimates = Mapping[str, Mapping[str, TrialEstimate]]
"""Estimated needs and durations of trials, by the `machine_key` of each kind of machine, then by fit id."""
WORKER = ("-m", "moodbench.worker")


@dataclass(frozen=True)
class Work:
    """The trial and the phases of a task."""

    trial: TrialSpec
    phases: tuple[Phase, ...]


def tasks_of(
    plan: Plan, machine_key: str, estimates: Estimates | None = None, most_bytes: float = math.inf
) -> dict[str, tuple[Task, Work]]:
    """Return the tasks of `plan` by key; measurements are bound to machines of `machine_key`.

    Without an estimate, a task has a place in the order, but no size. Memory is that needed on the machine that
    measures. No task asks for more than `most_bytes`: on a single machine, an estimate is no reason not to try.
    """
    found: dict[str, tuple[Task, Work]] = {}
    for planned in plan.trials:
        fit_id = planned.trial.fit.fit_id
        known = {key: by_fit[fit_id] for key, by_fit in (estimates or {}).items() if fit_id in by_fit}
        for task, work in _tasks_of(planned, machine_key, known, most_bytes):
            found[task.key] = (task, work)
    return found


def _tasks_of(
    planned: PlannedTrial, machine_key: str, known: Mapping[str, TrialEstimate], most_bytes: float
) -> Iterable[tuple[Task, Work]]:
    trial = planned.trial
    estimate = known.get(machine_key) or next(iter(known.values()), None)
    device = trial.measure.device
    packed: list[Phase] = []
    if "fit" in planned.missing:
        packed.append(FitPhase(spec=trial.fit))
    if "evaluate" in planned.missing:
        packed.append(EvaluatePhase(spec=trial.evaluate))
    first = f"{trial.fit.fit_id}-train"
    if packed:
        parts = [estimate.phase(phase.phase) for phase in packed] if estimate is not None else []
        need, seconds = (
            need_of(parts, most_bytes, device),
            relative_work(trial.fit) if "fit" in planned.missing else 0.0,
        )
        seconds_at = {key: sum(each.phase(p.phase).seconds for p in packed) for key, each in known.items()}
        task = Task(first, need, seconds=seconds, seconds_at=seconds_at, label=trial.label)
        yield task, Work(trial, tuple(packed))
    if "measure" in planned.missing:
        parts = [estimate.measure] if estimate is not None else []
        task = Task(
            f"{trial.fit.fit_id}-measure",
            need_of(parts, most_bytes, device, machine_key),
            exclusive=True,
            seconds_at={key: each.measure.seconds for key, each in known.items()},
            after=first,
            label=trial.label,
            group=trial.fit.dataset.name,
        )
        yield task, Work(trial, (MeasurePhase(spec=trial.measure),))


def need_of(
    parts: Sequence[PhaseEstimate],
    most_bytes: float = math.inf,
    device: str = "cpu",
    machine_key: str | None = None,
) -> Need:
    """Return what a task of these phases needs, at most `most_bytes` of memory; a CPU alone without estimates."""
    if not parts:
        return Need(1, device=device, machine_key=machine_key)
    return Need(
        1,
        memory_bytes=int(min(most_bytes, max(part.memory_bytes for part in parts))),
        device=device,
        gpu_memory_bytes=max(part.gpu_memory_bytes for part in parts),
        machine_key=machine_key,
        gpu_fixed_bytes=parts[0].gpu_fixed_bytes,
    )


def command_of(
    tasks: Sequence[tuple[Task, Work]],
    node: Node,
    *,
    run_id: str,
    store: str,
    isolation: Isolation,
    deadline_s: float | None,
) -> Command:
    """Return the command that runs these tasks on `node` in one process.

    They are one task, or a block of measurements that take turns.
    """
    (first, work), *others = tasks
    measure = work.trial.measure
    num_threads = measure.num_threads if first.exclusive else max(1, int(first.need.num_cpus))
    job = Job(
        run_id=run_id,
        store=store,
        phases=tuple(_on(node, task, phase) for task, each in tasks for phase in each.phases),
        device=measure.device,
        num_threads=num_threads,
        isolation=isolation,
    )
    return Command(
        key=first.key + (f"+{len(others)}" if others else ""),
        argv=WORKER,
        stdin=job.model_dump_json(),
        num_cpus=node.num_cpus if first.exclusive else first.need.num_cpus,
        exclusive=first.exclusive,
        num_threads=num_threads,
        memory_bytes=0 if first.exclusive else first.need.memory_bytes,
        num_gpus=node.num_gpus if first.exclusive else first.need.gpus_on(node),
        deadline_s=deadline_s,
        forkable=job.forkable,
    )


def _on(node: Node, task: Task, phase: Phase) -> Phase:
    """Return `phase` with its model spread over as many GPUs of `node` as `task` needs there."""
    num_gpus = task.need.gpus_on(node)
    return phase.model_copy(update={"num_gpus": int(num_gpus)}) if num_gpus > 1 else phase
