"""How long the rest of a run takes at least: from estimates, at the pace of what has ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from moodbench.schedule import Node, Task
from moodbench.schedule.bound import Spent, lower_bound_s
from moodbench.schedule.capacity import Capacity


class Outlook:
    """What the run has shown so far of how tasks take to their estimates, measurements apart."""

    def __init__(self) -> None:
        self._took = {False: 0.0, True: 0.0}
        self._expected = {False: 0.0, True: 0.0}

    def learn(self, task: Task, node: Node, seconds: float) -> None:
        """Nothing; `task` took so long on `node`."""
        self._took[task.exclusive] += seconds
        self._expected[task.exclusive] += task.seconds_on(node)

    def pace(self, task: Task) -> float | None:
        """Seconds per second expected of its kind of task; 1 before any has ended, None where it has no estimate then."""
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
        """Seconds that no schedule of the rest on `nodes` can stay below; None where a task has no pace, or no node.

        Running tasks come with their node and when they began by the same `clock`. One that waits is taken to run where it is
        quickest.
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
