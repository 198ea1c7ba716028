"""How much of its own time the driver spends on a phase; run with -m performance."""

import time

import pytest

from moodbench.benchmark.driver import run_plan
from moodbench.benchmark.plan import make_plan
from moodbench.config.cluster import Deadlines
from moodbench.runtime.executor import Ended, Progress
from moodbench.runtime.process import Outcome
from moodbench.schedule import Node
from moodbench.spec import EvaluateSpec, MeasureSpec, TrialSpec
from moodbench.spec.job import Job
from moodbench.store import Store

pytestmark = pytest.mark.performance
NUM_TRIALS = 3334
"""Three phases each: 10,002."""


class NoOp:
    """Ends every command at the next poll, with the events that a worker would tell."""

    def __init__(self):
        self._commands = []

    def isolation(self, node_id):
        return "resource"

    def start(self, command, node_id):
        self._commands.append(command)

    def poll(self, timeout_s, hear):
        commands, self._commands = self._commands, []
        for command in commands:
            for phase in Job.model_validate_json(command.stdin).phases:
                for event in ("started", "committed"):
                    hear(Progress(command.key, {"event": event, "phase": phase.phase, "id": phase.id, "won": True}))
        return [Ended(command.key, Outcome("ok")) for command in commands]

    def has_started(self, key):
        return True

    def free_resources(self, node_id):
        return ""

    def cancel(self, key):
        pass

    def close(self):
        pass


class Target:
    alone, drain_at, node_return_s, poll_s, deadlines = False, 4, 0.0, 0.0, Deadlines()

    def __init__(self, machine):
        self.executor, self.machine = NoOp(), machine
        key = machine.machine_key
        self._nodes = tuple(Node(f"n{i}", f"n{i}", num_cpus=4, machine_key=key) for i in range(4))

    def nodes(self):
        return self._nodes

    def node_events(self):
        return []

    def poll(self, timeout_s, hear):
        return self.executor.poll(timeout_s, hear)

    def close(self):
        pass


def trials(machine):
    """Many seeds of one resolved trial: as large as real ones are as JSON."""
    from moodbench.benchmark.resolve import resolve
    from moodbench.config import load_catalogue
    from moodbench.spec import SeedSpec, spec_of_preset

    catalogue = load_catalogue(None)
    first = resolve(spec_of_preset("quickstart", catalogue, {}), catalogue, machine)[0]
    for seed in range(NUM_TRIALS):
        fit = first.fit.model_copy(update={"seeds": SeedSpec(init=seed, data_order=seed, subsample=seed)})
        fit = type(fit).model_validate(fit.model_dump())
        evaluate = EvaluateSpec(fit=fit, batch_size=first.evaluate.batch_size)
        yield TrialSpec(fit=fit, evaluate=evaluate, measure=MeasureSpec(**{**dict(first.measure), "fit": fit}))


def test_driver_time_of_ten_thousand_phases(tmp_path):
    from moodbench.hardware import hardware

    plan = make_plan(list(trials(hardware())), {kind: set() for kind in ("fits", "evaluations", "measurements")})
    assert plan.num_phases_missing == 3 * NUM_TRIALS
    began, cpu = time.perf_counter(), time.process_time()
    summary = run_plan(plan, Store.open(tmp_path / "store"), Target(hardware()), listen=lambda event: None)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert (summary.num_committed, summary.failures) == (3 * NUM_TRIALS, [])
    each = 1e3 / (3 * NUM_TRIALS)
    print(
        f"\n{3 * NUM_TRIALS} phases: {cpu * each:.2f} ms of CPU and {wall * each:.2f} ms of wall time of the driver each"
    )


def test_driver_time_of_actors_under_local_ray():
    from moodbench.runtime.executor import HERE, Command
    from moodbench.runtime.ray_local import LocalRayExecutor

    executor, number = LocalRayExecutor(2), 300
    waiting = {f"c{i}" for i in range(number)}
    executor.start(Command("first", ("-c", ""), "", 1, exclusive=False), HERE)
    while not executor.poll(1.0, lambda progress: None):
        pass
    cpu = time.process_time()
    for key in sorted(waiting):
        executor.start(Command(key, ("-c", ""), "", 1, exclusive=False), HERE)
    while waiting:
        waiting -= {ended.key for ended in executor.poll(1.0, lambda progress: None)}
    cpu = time.process_time() - cpu
    executor.close()
    print(f"\n{number} empty commands, an actor each: {cpu / number * 1e3:.1f} ms of the driver's CPU time each")
