"""What Ray tells of a command, in the driver's words."""

import pytest

from moodbench.runtime.executor import Command
from moodbench.runtime.ray_actors import GET_S, START_S, CommandActors, outcome_of_error


def test_rays_memory_monitor_counts_as_out_of_memory():
    killed = RuntimeError("The actor died: Task was killed due to the node running low on memory.")
    assert outcome_of_error(killed).kind == "out of memory"
    assert outcome_of_error(RuntimeError("The actor's node has died")).kind == "infrastructure"


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(ValueError("no"), "program error"), (OSError(28, "No space left on device"), "infrastructure"), (MemoryError(), "out of memory")],
)  # fmt: skip
def test_what_is_raised_inside_an_actor_is_the_programs_error_unless_the_system_raised_it(cause, kind):
    class RayTaskError(Exception):
        """As Ray's own, which also is one of the cause's class."""

    raised = type("RayTaskError(X)", (RayTaskError, type(cause)), {"cause": cause})("Traceback ...")
    outcome = outcome_of_error(raised)
    assert outcome.kind == kind and outcome.detail.startswith(type(cause).__name__)


class FakeRay:
    """Ray as CommandActors asks it: nothing is ever ready, or reading what is ready takes too long."""

    class exceptions:
        class RayError(Exception):
            pass

        class GetTimeoutError(RayError):
            pass

    def __init__(self, ready=False):
        self.ready, self.killed = ready, []

    def remote(self, cls):
        return self

    def options(self, **_):
        self.run = self
        return type("Maker", (), {"remote": lambda *_: iter([1]) if self.made else self._actor()})()

    made = False

    def _actor(self):
        self.made = True
        return self

    def wait(self, streams, **_):
        return (streams[:1], []) if self.ready else ([], streams)

    def get(self, ref, timeout):
        assert timeout == GET_S
        raise self.exceptions.GetTimeoutError("slow")

    def kill(self, actor, **_):
        self.killed.append(actor)


def test_a_command_that_never_began_has_not_failed():
    now = [0.0]
    phases = CommandActors(FakeRay(), clock=lambda: now[0])
    phases.start(Command("a", (), "", 1, exclusive=False))
    assert phases.poll(0, lambda progress: None) == [] and not phases.has_started("a")
    now[0] = START_S + 1
    (ended,) = phases.poll(0, lambda progress: None)
    assert (ended.outcome.kind, ended.seconds, len(phases)) == ("not started", None, 0)
    assert "did not begin within 181 s" in ended.outcome.detail


def test_news_that_does_not_arrive_ends_its_command_and_not_the_driver():
    phases = CommandActors(FakeRay(ready=True))
    phases.start(Command("a", (), "", 1, exclusive=False))
    (ended,) = phases.poll(0, lambda progress: None)
    assert (ended.key, ended.outcome.kind) == ("a", "infrastructure")
    assert "did not arrive within 10 s" in ended.outcome.detail
