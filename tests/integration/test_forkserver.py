"""Processes that a fork server forks behave as new processes do, end with those they belong to, and train the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.hardware import hardware
from moodbench.runtime.forkserver import ADDRESS, fork_server
from moodbench.runtime.process import Outcome, RunningProcess, environment_of
from moodbench.spec import BenchmarkSpec
from moodbench.spec.job import EvaluatePhase, FitPhase, Job
from moodbench.store import Store

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux" or bool(hardware().gpus), reason="forks on Linux, without a GPU"),
]
RUNS_ITS_INPUT = """
import json, os, sys, time
def preload(): pass
def main(): exec(sys.stdin.read(), {"tell": lambda **event: print(json.dumps(event), flush=True), **globals()})
"""
WORKER = ("-m", "runs_its_input")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module that the server below forks."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "runs_its_input.py").write_text(RUNS_ITS_INPUT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.delenv(ADDRESS, raising=False)
        yield folder


@pytest.fixture(scope="module")
def server(folder):
    with fork_server("runs_its_input", environment_of(1)):
        yield os.environ[ADDRESS]


def messages(code, server, num_threads=1, **options):
    return list(RunningProcess(WORKER, code, num_threads, fork_server=server, **options).messages())


def gone(pid, limit_s=10.0):
    end = time.monotonic() + limit_s
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" and time.monotonic() < end:
        time.sleep(0.05)
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


def test_a_forked_process_has_its_own_session_environment_folder_and_streams(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOODBENCH_CACHE", "elsewhere")
    names = ["MOODBENCH_PROCESS", "MOODBENCH_CACHE", "OMP_NUM_THREADS"]
    code = (
        f"tell(cwd=os.getcwd(), argv=sys.argv, session=os.getsid(0) == os.getpid(), values=[os.environ[n] for n in {names}],"
        " fds=len(os.listdir('/proc/self/fd')), tasks=len(os.listdir('/proc/self/task')))\n"
        "print('why', file=sys.stderr); sys.exit(3)"
    )
    event, outcome = messages(code, server)
    assert event == {
        "cwd": str(tmp_path), "argv": list(WORKER), "session": True, "values": ["forked", "elsewhere", "1"],
        "fds": 4, "tasks": 1,
    }  # fmt: skip
    assert (outcome.kind, outcome.detail) == ("out of memory", "why")


@pytest.mark.parametrize(
    ("code", "kind", "detail"),
    [
        ("", "ok", ""),
        ("raise ValueError('no')", "program error", "ValueError: no"),
        ("os._exit(4)", "infrastructure", ""),
        ("os.kill(os.getpid(), 9)", "infrastructure", "ended by signal 9 (SIGKILL)"),
        ("os.abort()", "crash", "ended by signal 6 (SIGABRT)"),
        ("import atexit; atexit.register(lambda: print('bye', file=sys.stderr)); sys.exit(1)", "program error", "bye"),
    ],
)
def test_a_forked_process_ends_as_a_new_one_does(server, code, kind, detail):
    for where in (server, None):
        main = RUNS_ITS_INPUT + "main()"
        argv = WORKER if where else ("-c", main)
        (outcome,) = RunningProcess(argv, code, 1, fork_server=where).messages()
        assert outcome.kind == kind and outcome.detail.endswith(detail)


def test_a_forked_process_is_killed_at_its_deadline_and_its_peak_memory_is_known(server):
    *_, outcome = messages("x = b'x' * 400 * 2**20; time.sleep(60)", server, deadline_s=3.0)
    assert (outcome.kind, outcome.detail) == ("deadline", "no end after 3 s")
    assert 400 * 2**20 < outcome.peak_bytes < 500 * 2**20
    assert messages("", server)[0].peak_bytes < 200 * 2**20


def test_many_run_at_once_and_each_gets_its_own_input(server):
    running = [RunningProcess(WORKER, f"time.sleep(0.3); tell(n={n})", 1, fork_server=server) for n in range(8)]
    assert [[m for m in each.messages() if not isinstance(m, Outcome)] for each in running] == [
        [{"n": n}] for n in range(8)
    ]


@pytest.mark.parametrize("other", ["threads", "variable", "no server"])
def test_where_the_server_does_not_suit_a_new_process_starts(server, monkeypatch, other):
    if other == "variable":
        monkeypatch.setenv("HF_HOME", "/elsewhere")
    argv = ("-c", RUNS_ITS_INPUT + "main()")
    address = f"{server}-gone" if other == "no server" else server
    code = "tell(started=os.environ['MOODBENCH_PROCESS'], threads=os.environ['OMP_NUM_THREADS'])"
    threads = 2 if other == "threads" else 1
    event, outcome = RunningProcess(argv, code, threads, fork_server=address).messages()
    assert (event, outcome.kind) == ({"started": "new process", "threads": str(threads)}, "ok")


CLIENT = """
import sys
from moodbench.runtime.process import RunningProcess
for message in RunningProcess(("-m", "runs_its_input"), "tell(pid=os.getpid()); time.sleep(60)", 1, fork_server=sys.argv[1]).messages():
    print(message["pid"], flush=True)
"""
OWNER = """
import os
from moodbench.runtime.forkserver import ADDRESS, fork_server
from moodbench.runtime.process import RunningProcess, environment_of
with fork_server("runs_its_input", environment_of(1)):
    for message in RunningProcess(("-m", "runs_its_input"), "tell(pid=os.getpid()); time.sleep(60)", 1, fork_server=os.environ[ADDRESS]).messages():
        print(message["pid"], flush=True)
"""


@pytest.mark.parametrize("whose", ["client", "owner of the server"])
def test_a_forked_process_is_killed_with_its_client_and_with_the_owner_of_its_server(server, whose):
    argv = [CLIENT, server] if whose == "client" else [OWNER]
    # Without what native libraries have added here, and without the address of the server above.
    environment = {name: value for name, value in os.environ.items() if name != ADDRESS}
    with subprocess.Popen([sys.executable, "-c", *argv], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pid = int(parent.stdout.readline())
        fork_parent = psutil.Process(pid).ppid()
        assert fork_parent != parent.pid
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)
    assert whose == "client" or gone(fork_parent)


def test_when_a_server_is_killed_its_processes_are_lost_and_the_next_are_new(folder):
    with fork_server("runs_its_input", environment_of(1)):
        address = os.environ[ADDRESS]
        running = RunningProcess(
            WORKER, "tell(pid=os.getpid(), server=os.getppid()); time.sleep(60)", 1, fork_server=address
        )
        event = running.message()
        os.kill(event["server"], signal.SIGKILL)
        assert running.message().kind == "infrastructure" and gone(event["pid"])
        argv = ("-c", RUNS_ITS_INPUT + "main()")
        assert next(RunningProcess(argv, "tell(n=1)", 1, fork_server=address).messages()) == {"n": 1}


def fitted(store_folder: Path, fork_server: str | None):
    """Fit and evaluate a small LoRA model in a process; return its weights, predictions and how it was started."""
    changes = {"epochs": 1, "evaluations_per_epoch": 1, "min_steps": 0, "validation_share": 1}
    spec = BenchmarkSpec(
        models=("MiniLM-L3",), datasets=("icwsm-tweets",), device="cpu", train=changes, max_train_examples=48, max_validation_examples=24
    )  # fmt: skip
    (trial,) = resolve(spec, load_catalogue(), hardware(), with_baseline=False)
    phases = (FitPhase(spec=trial.fit), EvaluatePhase(spec=trial.evaluate))
    job = Job(run_id="r", store=str(store_folder), phases=phases, device="cpu", num_threads=1)
    assert job.forkable
    process = RunningProcess(("-m", "moodbench.worker"), job.model_dump_json(), 1, fork_server=fork_server)
    *_, outcome = process.messages()
    assert outcome.kind == "ok", outcome.detail
    store = Store.open(str(store_folder))
    record = store.record("fits", trial.fit.fit_id)
    started = json.loads(record["environment"])["process"]
    (weights,) = store.artifact(trial.fit.fit_id).glob("adapter/*.safetensors")
    logits = np.stack(store.predictions([trial.evaluate.evaluation_id])["logits"].to_list())
    return load_file(weights), logits, started, record["train_peak_memory_bytes"]


def test_a_forked_worker_trains_and_predicts_the_same_bits_as_a_new_one(tmp_path, monkeypatch):
    monkeypatch.delenv(ADDRESS, raising=False)
    with fork_server("moodbench.worker", environment_of(1)):
        weights, logits, started, peak = fitted(tmp_path / "forked", os.environ[ADDRESS])
    new_weights, new_logits, new_started, new_peak = fitted(tmp_path / "new", None)
    assert (started, new_started) == ("forked", "new process")
    assert weights.keys() == new_weights.keys()
    for name in weights:
        np.testing.assert_array_equal(weights[name], new_weights[name], err_msg=name)
    np.testing.assert_array_equal(logits, new_logits)
    assert 0.9 < peak / new_peak < 1.1, "inherited libraries count"
