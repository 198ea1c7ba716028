"""ETA of a run: a lower bound from the estimates, scaled by the pace of finished tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from moodbench.schedule import Node, Task
from moodbench.schedule.bound import Spent, lower_bound_s
from moodbench.schedule.capacity import Capacity


class Eta:
    """ETA of a run, from the ratio of observed to estimated durations so far; measurements have their own ratio."""

    def __init__(self) -> None:
        self._took = {False: 0.0, True: 0.0}
        self._expected = {False: 0.0, True: 0.0}

    def learn(self, task: Task, node: Node, seconds: float) -> None:
        """Record that `task` took `seconds` on `node`."""
        self._took[task.exclusive] += seconds
        self._expected[task.exclusive] += task.seconds_on(node)

    def pace(self, task: Task) -> float | None:
        """Return the observed seconds per estimated second for tasks of this kind.

        Before a task of this kind has ended, it is 1, or None if `task` has no estimate.
        """
        expected = self._expected[task.exclusive]
        if expected:
            return self._took[task.exclusive] / expected
        return 1.0 if task.seconds_at else None

    def eta_s(
        self,
        waiting: Iterable[Task],
        running: Iterable[tuple[Task, Node, float]],
        nodes: Sequence[Node],
        clock: float,
    ) -> float | None:
        """Return a lower bound of the remaining seconds; None if a task has no pace, or no node can run it.

        `running` holds each running task with its node and its start time by the same `clock`. A waiting task is
        assumed to run on the node where it is fastest.
        """
        rest = []
        for task in waiting:
            pace = self.pace(task)
            if pace is None:
                return None
            rest.append(Spent(task, pace * min((task.seconds_on(node) for node in nodes), default=task.seconds)))
        for task, node, began in running:
            pace = self.pace(task)
            if pace is None:
                return None
            rest.append(Spent(task, max(0.0, pace * task.seconds_on(node) - (clock - began))))
        found = lower_bound_s(rest, Capacity.of(nodes)) if rest else None
        return None if found == math.inf else found
