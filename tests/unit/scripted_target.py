"""Target of a run that starts no process: a script says how each phase ends."""

from moodbench.benchmark.driver import run_plan
from moodbench.benchmark.plan import make_plan
from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.config.cluster import Deadlines
from moodbench.hardware import GIB, Hardware
from moodbench.runtime.executor import Ended, Progress
from moodbench.runtime.process import Outcome
from moodbench.schedule import Node
from moodbench.spec import BenchmarkSpec
from moodbench.spec.job import Job
from moodbench.store import Store

MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * GIB, gpus=(), mps=False)
SPEC = BenchmarkSpec(models=("majority", "tfidf-logreg", "vader"), datasets=("icwsm-product",))
TRIALS = resolve(SPEC, load_catalogue(), MACHINE)
PLAN = make_plan(TRIALS, {"fits": set(), "evaluations": set(), "measurements": set()})


def node(name, memory=8 * GIB):
    return Node(name, name, num_cpus=2, memory_bytes=memory, machine_key=MACHINE.machine_key)


class ScriptedTarget:
    """Target and executor in one. `script` says how a command ends: from (model, phase, node, attempt) to an outcome."""

    def __init__(self, script=lambda *_: Outcome("ok"), nodes=("n1", "n2"), leaves=None):
        self.executor, self.machine = self, MACHINE
        self.drain_at, self.deadlines, self.node_return_s, self.poll_s, self.alone = 2, Deadlines(), 0.0, 0.0, False
        self._script, self._nodes, self._leaves = script, [node(n) if isinstance(n, str) else n for n in nodes], leaves
        self._running, self.ran, self.forgotten, self.pending, self.deadlines_s = {}, [], [], set(), {}

    def machines(self):
        return (MACHINE,)

    def nodes(self):
        if self._leaves and any(n == self._leaves for _, n in self._running.values()):
            self._nodes = [each for each in self._nodes if each.name != self._leaves]
        return tuple(self._nodes)

    def node_events(self):
        return []

    def isolation(self, node_id):
        return "resource"

    def start(self, command, node_id):
        self._running[command.key] = (command, node_id)
        self.deadlines_s[command.key] = command.deadline_s

    def has_started(self, key):
        return key not in self.pending

    def free_resources(self, node_id):
        return "0 of 2 CPUs"

    def cancel(self, key):
        self.forgotten.append(key)
        del self._running[key]

    def poll(self, timeout_s, hear):
        running = {key: value for key, value in self._running.items() if value[1] != self._leaves}
        self._running = {key: value for key, value in self._running.items() if key not in running}
        ended = []
        for key, (command, where) in running.items():
            kinds = []
            for phase in Job.model_validate_json(command.stdin).phases:
                fit = phase.spec if phase.phase == "fit" else phase.spec.fit
                name = (fit.model.name, phase.phase, where)
                self.ran.append(name)
                attempt = sum(1 for model, what, _ in self.ran if (model, what) == name[:2])
                outcome = self._script(*name, attempt)
                kinds.append(outcome)
                said = {"phase": phase.phase, "id": phase.id}
                hear(Progress(key, {"event": "started", **said}))
                if outcome.kind == "ok":
                    hear(Progress(key, {"event": "committed", "won": True, **said}))
                elif outcome.kind != "infrastructure":
                    hear(Progress(key, {"event": "failed", "error": outcome.detail, "kind": outcome.kind, **said}))
                if outcome.kind != "ok" and phase.phase != "measure":
                    break
            bad = [each for each in kinds if each.kind != "ok"]
            ended.append(Ended(key, bad[0] if bad else Outcome("ok")))
        return ended

    def close(self):
        pass


def play(tmp_path, place, **options):
    events = []
    summary = run_plan(PLAN, Store.open(tmp_path / "store"), place, listen=events.append, **options)
    return summary, events
