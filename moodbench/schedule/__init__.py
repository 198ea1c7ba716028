"""Which task runs next and where, and what follows when one fails: the policy, pure, shared by every executor.

resources    what nodes have and tasks need
policy       order, reservation, drain, measurements alone
retry        what becomes of a task that ended badly
capacity     what the nodes had to give, as they came and went
bound        the shortest time any schedule could take
accounting   where the processors' time went
"""

from moodbench.schedule.policy import Scheduler, Start
from moodbench.schedule.resources import Need, Node, Task
from moodbench.schedule.retry import Outcome, OutcomeKind

__all__ = ["Need", "Node", "Outcome", "OutcomeKind", "Scheduler", "Start", "Task"]
