"""Scheduling policy: which task runs next and where, and what follows a failure. Pure, and shared by all executors.

resources    resources of nodes and tasks, the next attempt of a failed task
policy       order, reservations, draining, exclusive measurements, retries of failed tasks
accounting   resources of the nodes over time, lower bound of the makespan, use of the CPU time
"""

from moodbench.schedule.policy import Scheduler, Start
from moodbench.schedule.resources import Need, Node, Task
