"""The run that a page starts: one at a time, told by its events, left when cancelled."""

import json
import threading

import pytest

from moodbench.benchmark.context import BackgroundRun
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError, UsageError
from moodbench.hardware import hardware
from moodbench.runtime.executor import InlineExecutor
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.spec.job import Job
from moodbench.store import Store
from moodbench.worker import run_job

pytestmark = pytest.mark.integration


def spec(**changes):
    values = {"models": ("tfidf-logreg",), "datasets": ("icwsm-tweets",), "protocol": "short", "max_train_examples": 96}
    return spec_from_values(values | changes, "test")


class Gate(InlineExecutor):
    """Runs a command only when let through, as a long one would take its time."""

    def __init__(self, entry, let_through):
        super().__init__(entry)
        self._let_through, self.deadlines_s = let_through, []

    def start(self, command, node_id):
        self.deadlines_s.append(command.deadline_s)
        super().start(command, node_id)

    def poll(self, timeout_s, hear):
        return super().poll(timeout_s, hear) if self._let_through.wait(0.05) else []


@pytest.fixture
def opened(tmp_path, config, monkeypatch):
    let_through = threading.Event()
    executor = None

    def gate(name, machine):
        nonlocal executor
        executor = Gate(lambda stdin, tell: run_job(Job.model_validate_json(stdin), tell), let_through)
        return executor

    monkeypatch.setattr("moodbench.benchmark.context._executor", gate)
    store = Store.open(tmp_path / "results")
    queue = BackgroundRun(store, load_catalogue(config), hardware(), executor="inline")
    queue.deadlines_s = lambda: executor.deadlines_s
    return queue, store, let_through


def test_one_run_at_a_time_and_its_records_are_those_of_any_run(opened):
    queue, store, let_through = opened
    assert queue.state == ("idle", "")
    queue.start(spec())
    with pytest.raises(UsageError, match="already in progress; wait until it ends, or cancel it"):
        queue.start(spec())
    let_through.set()
    assert queue.wait(120)
    state, message = queue.state
    assert state == "ended" and message.endswith("3 records were committed."), message
    assert {kind: len(store.ids(kind)) for kind in ("fits", "evaluations", "measurements")} == {
        "fits": 1, "evaluations": 1, "measurements": 1,
    }  # fmt: skip
    assert all(900 < seconds < 3600 for seconds in queue.deadlines_s()), "estimates are known: 10 x some seconds + 900"
    queue.start(spec())
    assert queue.wait(60) and queue.state == ("ended", "Nothing to do: all results are in the store.")


def test_a_cancelled_run_leaves_at_once_and_says_so_in_its_log(opened):
    queue, store, _ = opened
    queue.start(spec(seeds=(0, 1)))
    queue.cancel()
    assert queue.wait(60)
    assert queue.state[0] == "cancelled" and store.ids("fits") == set()
    logs = list((store.location.root / "events").glob("*.jsonl"))
    for log in logs:
        last = json.loads(log.read_text().splitlines()[-1])
        assert (last["event"], last["cancelled"]) == ("run_ended", True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PrerequisiteError("its disk has 0.00 GiB free"), "its disk has 0.00 GiB free"),
        pytest.param(
            RuntimeError("no such door"),
            "RuntimeError: no such door",
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
        ),
    ],
)
def test_a_refusal_and_a_fault_of_our_own_end_a_run_and_say_which(error, said, opened, monkeypatch):
    def failing(plan, context, **more):
        raise error

    monkeypatch.setattr("moodbench.benchmark.context.check_preflight", failing)
    queue, store, _ = opened
    queue.start(spec())
    assert queue.wait(60) and queue.state == ("failed", said)
    assert store.ids("fits") == set()


def test_what_is_wrong_with_a_request_is_its_message(opened):
    queue, _, _ = opened
    queue.start(spec(models=("no-such-model",)))
    assert queue.wait(60)
    state, message = queue.state
    assert state == "failed" and "no-such-model" in message
