"""Commands as processes: inline, under Ray and alone; events as they come and neutral outcomes."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from moodbench.errors import PrerequisiteError
from moodbench.runtime.executor import HERE, Command, InlineExecutor
from moodbench.runtime.process import MAX_DETAIL_CHARS, Outcome, RunningProcess
from moodbench.runtime.ray_local import LocalRayExecutor, start_ray

pytestmark = pytest.mark.integration
TELL = "import json, os, sys, time; tell = lambda **e: print(json.dumps(e), flush=True); text = sys.stdin.read(); "


def command(key: str, code: str, *, stdin: str = "", exclusive: bool = False) -> Command:
    return Command(key, ("-c", TELL + code), stdin, num_cpus=1, exclusive=exclusive)


def run(executor, *commands, limit_s: float = 180):
    """Everything heard, in order, and the outcomes by key."""
    heard, outcomes, end = [], {}, time.monotonic() + limit_s
    for each in commands:
        executor.start(each, HERE)
    while len(outcomes) < len(commands) and time.monotonic() < end:
        for ended in executor.poll(1.0, lambda progress: heard.append((progress.key, dict(progress.event)))):
            outcomes[ended.key] = ended.outcome
    return heard, outcomes


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0, "ok"),
        (1, "program error"),
        (2, "program error"),
        (3, "out of memory"),
        (4, "infrastructure"),
        (5, "out of memory"),
        (6, "crash"),
        (-9, "infrastructure"),
        (-15, "infrastructure"),
        (-11, "crash"),
        (-6, "crash"),
        (-4, "crash"),
    ],
)
def test_exit_codes_become_neutral_outcomes(code, kind):
    outcome = Outcome.of_exit(code, "")
    assert outcome.kind == kind
    assert code in (2, outcome.exit_code) or code < 0, "a process that ends this way by itself has this exit code"


def test_whose_memory_ran_out_is_told_apart():
    def end(code):
        *_, last = RunningProcess(command("a", f"sys.exit({code})").argv, "", num_threads=1).messages()
        return last

    assert [(end(code).kind, end(code).on_gpu) for code in (3, 5)] == [
        ("out of memory", False),
        ("out of memory", True),
    ]


def test_a_process_tells_its_events_and_the_end_of_its_errors():
    argv = command("a", "tell(n=1); tell(text=text); print('so it goes', file=sys.stderr); sys.exit(1)").argv
    *events, end = RunningProcess(argv, "hello", num_threads=3).messages()
    assert events == [{"n": 1}, {"text": "hello"}]
    assert (end.kind, end.detail) == ("program error", "so it goes")


def test_what_a_library_prints_among_the_events_is_passed_over_and_told_when_it_fails():
    argv = command("a", "print('loading ...', flush=True); print('3', flush=True); tell(n=1); sys.exit(1)").argv
    *events, end = RunningProcess(argv, "", num_threads=1).messages()
    assert events == [{"n": 1}]
    assert (end.kind, end.detail) == ("program error", "loading ...\n3")


def test_the_detail_of_an_outcome_is_capped():
    argv = command("a", "sys.stderr.write('x' * 10**6 + 'the end'); sys.exit(1)").argv
    (end,) = RunningProcess(argv, "", num_threads=1).messages()
    assert len(end.detail) == MAX_DETAIL_CHARS and end.detail.endswith("the end")


def test_a_process_shows_signs_of_life_and_is_ended_at_its_deadline():
    argv = command("a", "tell(n=1); time.sleep(60)").argv
    *events, end = RunningProcess(argv, "", num_threads=1, deadline_s=2.0).messages(beat_s=0.3)
    assert {"n": 1} in events and 3 <= events.count({"event": "alive"}) <= 6
    assert (end.kind, end.detail) == ("deadline", "no end after 2 s")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one process")
def test_a_process_tells_the_most_memory_it_held():
    argv = command("a", "x = b'x' * 400 * 2**20").argv
    # Linux counts the starting process's own memory until the new program is loaded, so a small one starts it.
    small = (
        "from moodbench.runtime.process import RunningProcess\n"
        f"(end,) = RunningProcess({argv!r}, '', num_threads=1).messages()\n"
        "print(end.peak_bytes)"
    )
    told = subprocess.run([sys.executable, "-c", small], capture_output=True, text=True, check=True)
    assert 400 * 2**20 < int(told.stdout) < 700 * 2**20


def test_a_process_that_ends_before_it_reads_is_told_by_its_exit_code():
    argv = ("-c", "import sys; sys.exit(1)")
    (end,) = RunningProcess(argv, "x" * 10_000_000, num_threads=1).messages()
    assert end.kind == "program error"


def test_a_process_gets_its_threads_and_may_write_byte_code(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "tell(threads=os.environ['OMP_NUM_THREADS'], bytecode=not sys.dont_write_bytecode)"
    first, _ = RunningProcess(command("a", code).argv, "", num_threads=3).messages()
    assert first == {"threads": "3", "bytecode": True}


@pytest.mark.parametrize("tells_more", [True, False])
def test_an_interrupt_that_something_swallowed_still_ends_an_inline_command(tells_more):
    done = []

    def entry(stdin, tell):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:  # as a finaliser of native code may
            done.append("swallowed")
        if tells_more:
            tell({"step": 1})
            done.append("went on")
        return Outcome("ok")

    before = signal.getsignal(signal.SIGINT)
    inline = InlineExecutor(entry)
    inline.start(command("a", ""), HERE)
    with pytest.raises(KeyboardInterrupt):
        inline.poll(1.0, lambda progress: None)
    assert done == ["swallowed"] and signal.getsignal(signal.SIGINT) is before


def test_inline_hears_events_while_the_command_runs():
    log = []

    def entry(stdin, tell):
        tell({"n": 1})
        log.append("after the first event")
        return Outcome.of_exit(json.loads(stdin), "")

    executor = InlineExecutor(entry)
    executor.start(Command("a", (), "3", 1, exclusive=False), HERE)
    ended = executor.poll(1.0, lambda progress: log.append(progress.event["n"]))
    assert log == [1, "after the first event"]
    assert [(e.key, e.outcome.kind) for e in ended] == [("a", "out of memory")]


@pytest.fixture(scope="module")
def ray():
    executor = LocalRayExecutor(num_cpus=2)
    yield executor
    executor.close()


def test_ray_runs_packed_commands_side_by_side_and_tells_how_each_ended(ray):
    linger = "tell(at=time.time()); time.sleep(3); tell(at=time.time())"
    heard, outcomes = run(
        ray,
        command("a", linger),
        command("b", linger),
        command("fails", "print('why', file=sys.stderr); sys.exit(1)"),
        command("dies", "tell(pid=os.getpid()); os.kill(os.getpid(), 9)"),
    )
    spans = {key: [event["at"] for k, event in heard if k == key] for key in ("a", "b")}
    assert spans["a"][0] < spans["b"][1] and spans["b"][0] < spans["a"][1]
    assert {k: o.kind for k, o in outcomes.items()} == {
        "a": "ok",
        "b": "ok",
        "fails": "program error",
        "dies": "infrastructure",
    }
    assert outcomes["fails"].detail == "why"
    assert "signal 9" in outcomes["dies"].detail


def test_an_exclusive_command_runs_without_ray_beside_it(ray):
    def daemons():
        return [p for p in psutil.Process().children(recursive=True) if "raylet" in p.name() and p.status() != "zombie"]

    run(ray, command("packed", "tell(n=1)"))
    assert daemons(), "a packed command runs under Ray"
    heard, outcomes = run(ray, command("alone", "tell(text=text)", stdin="x", exclusive=True))
    assert (heard, outcomes["alone"].kind) == ([("alone", {"text": "x"})], "ok")
    assert not daemons()
    assert run(ray, command("packed again", "tell(n=2)"))[1]["packed again"].kind == "ok"


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ("The current node timed out during startup. This could happen because ...", 3),
        ("Timed out waiting for file /tmp/session/ports_by_node.json", 3),
        ("Timed out after 30 seconds while waiting for node to startup. ", 3),
        ("address already in use", 1),
    ],
)
def test_a_ray_that_was_too_slow_to_start_is_tried_again_and_leaves_nothing(monkeypatch, said, times):
    import ray as library

    left = []

    def too_slow(**_):
        left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        raise Exception(said)

    monkeypatch.setattr(library, "init", too_slow)
    with pytest.raises(PrerequisiteError, match=f"Ray did not start on this machine: {said[:20]}"):
        start_ray(1)
    assert len(left) == times and not any(psutil.pid_exists(each.pid) for each in left)
    for each in left:
        each.wait()


IMPORTED_EARLY = """
import os
import signal
os.environ.pop("RAY_AUTH_TOKEN", None)
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.pop("RAY_ENABLE_UV_RUN_RUNTIME_ENV", None)
import ray
from ray._private import ray_constants
assert ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
from moodbench.runtime.ray_local import start_ray
for _ in range(2):
    assert start_ray(1) is ray
    told = ray.remote(lambda: (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])))
    assert ray.get(told.remote()) == ("token", 64)
    assert not ray.get_runtime_context().runtime_env.get("py_executable")
    ray.shutdown()
    assert not ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
    assert os.environ["RAY_AUTH_MODE"] == "disabled" and "RAY_AUTH_TOKEN" not in os.environ
"""


def test_a_program_that_imported_ray_before_still_gets_one_with_a_token_which_no_other_cluster_is_shown():
    done = subprocess.run([sys.executable, "-c", IMPORTED_EARLY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_exclusive_command_beside_others_is_refused(ray):
    ray.start(command("packed", "time.sleep(1)"), HERE)
    with pytest.raises(RuntimeError, match="must run alone"):
        ray.start(command("alone", "", exclusive=True), HERE)
    assert run(ray)[1] == {}


def test_closing_ends_what_runs():
    executor = LocalRayExecutor(num_cpus=1)
    heard: list[int] = []
    executor.start(command("alone", "tell(pid=os.getpid()); time.sleep(60)", exclusive=True), HERE)
    while not heard:
        executor.poll(1.0, lambda progress: heard.append(progress.event["pid"]))
    executor.close()
    end = time.monotonic() + 10
    while psutil.pid_exists(heard[0]) and psutil.Process(heard[0]).status() != "zombie" and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(heard[0]) or psutil.Process(heard[0]).status() == "zombie"
