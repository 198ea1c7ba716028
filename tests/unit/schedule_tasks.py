"""Nodes and tasks for tests of the schedule."""

import heapq
import itertools
import math

from moodbench.runtime.process import Outcome
from moodbench.schedule import Need, Node, Task

OK, INFRASTRUCTURE = Outcome("ok"), Outcome("infrastructure")


def node(name="n", cpus=4, memory=math.inf, gpus=0, vram=0, key="m", price=None):
    devices = frozenset({"cpu", "cuda"} if gpus else {"cpu"})
    return Node(name, name, "cpu", cpus, memory, gpus, vram, devices, key, price)


def fit(key, cpus=1, seconds=1.0, memory=0, vram=0, device="cpu", fixed=None):
    return Task(key, Need(cpus, memory, device, vram, gpu_fixed_bytes=fixed), seconds=seconds)


def measurement(key, after=None, seconds=1.0, machine=None):
    return Task(key, Need(machine_key=machine), exclusive=True, seconds=seconds, after=after)


def started(scheduler):
    return [(start.node.name, tuple(task.key for task in start.tasks)) for start in scheduler.start()]


class Simulated:
    def __init__(self):
        self.order, self.spans, self.makespan = [], [], 0.0


def simulate(scheduler, seconds, outcome=lambda task: OK):
    """Runs the schedule on a clock of its own; a block of measurements takes the sum of its parts."""
    clock, ends, count, run = 0.0, [], itertools.count(), Simulated()
    for key, (task, where) in scheduler.running.items():
        heapq.heappush(ends, (seconds(task), next(count), (key,)))
        run.spans.append((where.name, task, 0.0, seconds(task)))
    while scheduler.num_waiting or scheduler.running:
        for start in scheduler.start():
            total = sum(seconds(task) for task in start.tasks)
            heapq.heappush(ends, (clock + total, next(count), tuple(task.key for task in start.tasks)))
            run.order += [task.key for task in start.tasks]
            run.spans += [(start.node.name, task, clock, clock + total) for task in start.tasks]
        assert ends, f"nothing runs and nothing starts, but {scheduler.num_waiting} wait"
        clock, _, keys = heapq.heappop(ends)
        for key in keys:
            scheduler.ended(key, outcome(scheduler.running[key][0]))
    run.makespan = clock
    return run
