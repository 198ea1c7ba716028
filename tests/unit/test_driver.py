"""The driver with a stand-in for where commands run: what it starts again, gives up, tells, and refuses."""

from collections import Counter
from dataclasses import replace

import pytest

from moodbench.benchmark.driver import run_plan
from moodbench.benchmark.plan import make_plan
from moodbench.benchmark.resolve import resolve
from moodbench.benchmark.target import Deadlines, node_of
from moodbench.benchmark.tasks import command_of, tasks_of
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.estimate import PhaseEstimate, TrialEstimate
from moodbench.hardware import GIB, Gpu, Hardware
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


class Place:
    """Site and executor in one. `script` says how a command ends: from (model, phase, node, attempt) to an outcome."""

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


def test_every_phase_is_committed_once_and_the_run_says_how_good_its_schedule_was(tmp_path):
    summary, events = play(tmp_path, place := Place())
    assert (summary.num_committed, summary.failures) == (9, [])
    assert len(place.ran) == len({(model, phase) for model, phase, _ in place.ran}) == 9
    assert events[0]["event"] == "run_started" and events[-1]["event"] == "run_ended"
    account = summary.accounting
    assert 0 < account.lower_bound_s <= account.makespan_s == events[-1]["makespan_s"]


def test_a_program_error_is_not_tried_again_and_takes_only_its_own_trial_along(tmp_path):
    def script(model, phase, where, attempt):
        wrong = (model, phase) == ("vader", "evaluate")
        return Outcome("program error", "ValueError: so it goes") if wrong else Outcome("ok")

    summary, _ = play(tmp_path, place := Place(script))
    assert summary.failures == ["vader · icwsm-product · seed 0: program error: ValueError: so it goes"]
    assert sum(model == "vader" for model, _, _ in place.ran) == 2, "no measurement of what was never evaluated"
    assert summary.num_committed == 1 + 6


def test_an_infrastructure_failure_goes_to_the_other_node(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("infrastructure", "gone") if (model, phase, attempt) == ("majority", "fit", 1) else Outcome("ok")

    summary, events = play(tmp_path, place := Place(script))
    first, second = (where for model, phase, where in place.ran if (model, phase) == ("majority", "fit"))
    assert first != second and summary.failures == [] and summary.num_committed == 9
    (bad,) = [e for e in events if e["event"] == "job_ended" and e["outcome"] != "ok"]
    assert (bad["retry"], bad["detail"], bad["node"]) == (True, "gone", first)


def test_one_measurement_of_a_block_may_fail_and_the_others_stand(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("program error", "no") if (model, phase) == ("vader", "measure") else Outcome("ok")

    summary, _ = play(tmp_path, place := Place(script, nodes=("n1",)))
    assert summary.num_committed == 8
    assert summary.failures == ["vader · icwsm-product · seed 0: program error: no"]
    assert sum(phase == "measure" for _, phase, _ in place.ran) == 3


def test_a_block_lost_with_its_node_is_measured_again_but_for_what_it_committed(tmp_path):
    def script(model, phase, where, attempt):
        lost = phase == "measure" and model == "majority" and attempt == 1
        return Outcome("infrastructure", "gone") if lost else Outcome("ok")

    summary, _ = play(tmp_path, place := Place(script, nodes=("n1",)))
    measured = [model for model, phase, _ in place.ran if phase == "measure"]
    assert sorted(measured) == ["majority", "majority", "tfidf-logreg", "vader"]
    assert (summary.num_committed, summary.failures) == (9, [])


def test_a_node_that_leaves_loses_its_commands_to_the_other(tmp_path):
    place = Place(nodes=("n1", "n2"), leaves="n1")
    summary, events = play(tmp_path, place)
    assert place.forgotten and (summary.num_committed, summary.failures) == (9, [])
    assert {where for _, _, where in place.ran} == {"n2"}
    lost = [e for e in events if e.get("detail") == "node n1 left the cluster"]
    assert lost and all(e["retry"] for e in lost)


def test_when_no_node_is_left_the_run_says_so_and_ends(tmp_path):
    summary, _ = play(tmp_path, Place(nodes=("n1",), leaves="n1"))
    assert len(summary.failures) == 3 and summary.num_committed == 0
    assert all("there is no node" in line for line in summary.failures)


def test_the_wait_for_a_node_that_left_is_told_when_it_begins_and_ends_in_time(tmp_path, monkeypatch):
    from moodbench.benchmark import driver

    ticks = iter(range(10**6))
    monkeypatch.setattr(driver.time, "monotonic", lambda: float(next(ticks)))
    place = Place(nodes=("n1",), leaves="n1")
    place.node_return_s = 50.0
    summary, events = play(tmp_path, place)
    told = [e for e in events if e["event"] == "waiting_for_node"]
    assert [e["seconds"] for e in told] == [50.0]
    assert "there is no node; and " in told[0]["detail"], told
    assert len(summary.failures) == 3 and events[-1]["makespan_s"] > 50


def test_a_node_that_comes_back_in_time_takes_up_what_waited(tmp_path):
    place = Place(nodes=("n1",), leaves="n1")
    place.node_return_s = 3600.0
    told = []

    def listen(event):
        told.append(event["event"])
        if event["event"] == "waiting_for_node":
            place._leaves, place._nodes = None, [node("n1 again")]

    summary = run_plan(PLAN, Store.open(tmp_path / "store"), place, listen=listen)
    assert (summary.num_committed, summary.failures) == (9, []) and "waiting_for_node" in told


def estimates(memory):
    part = PhaseEstimate(10.0, memory)
    return {MACHINE.machine_key: {trial.fit.fit_id: TrialEstimate(part, part, part) for trial in TRIALS}}


def test_what_no_node_can_ever_run_is_refused_before_anything_starts(tmp_path):
    place = Place(nodes=(node("small", 2 * GIB), node("large", 4 * GIB)))
    with pytest.raises(PrerequisiteError) as refusal:
        play(tmp_path, place, estimates=estimates(6 * GIB))
    said = str(refusal.value)
    assert "6.0 GiB of memory; small has 2.0 GiB of memory, large has 4.0 GiB of memory" in said
    assert "Nothing was started" in said and place.ran == []


def test_on_a_machine_alone_an_estimate_is_no_reason_not_to_try(tmp_path):
    place = Place(nodes=(node("here", 4 * GIB),))
    place.alone = True
    assert play(tmp_path, place, estimates=estimates(6 * GIB))[0].num_committed == 9


def test_a_model_too_large_for_one_gpu_gets_two_for_each_of_its_phases_and_a_small_one_a_share():
    card = Gpu("A10G", 24 * GIB, "550", "[N/A]", "300")
    machine = replace(MACHINE, gpus=(card, card))
    spec = BenchmarkSpec(models=("MiniLM-L3", "majority"), datasets=("icwsm-product",), device="cuda")
    (trial,) = [t for t in resolve(spec, load_catalogue(), machine) if t.fit.model.method == "lora"]
    plan = make_plan([trial], {"fits": set(), "evaluations": set(), "measurements": set()})
    where = node_of("n", "n", machine)

    def asked(gib):
        part = PhaseEstimate(10.0, GIB, gpu_memory_bytes=gib * GIB, gpu_fixed_bytes=GIB)
        found = tasks_of(
            plan, machine.machine_key, {machine.machine_key: {trial.fit.fit_id: TrialEstimate(part, part, part)}}
        )
        how = {"run_id": "r", "store": "s", "isolation": "resource", "deadline_s": None}
        commands = [command_of([each], where, **how) for each in found.values()]
        phases = [phase for command in commands for phase in Job.model_validate_json(command.stdin).phases]
        return [command.num_gpus for command in commands], [phase.num_gpus for phase in phases]

    # A measurement has its whole node, and the model in it the GPUs that it needs.
    assert asked(30) == ([2, 2], [2, 2, 2])
    assert asked(6) == ([0.25, 2], [1, 1, 1])


def states_of(tmp_path, monkeypatch, place, **options):
    from moodbench.benchmark import driver

    monkeypatch.setattr(driver, "STATE_EVERY_S", 0.0)
    _, events = play(tmp_path, place, **options)
    return [e for e in events if e["event"] == "state"]


def test_the_time_left_is_known_from_the_estimates_before_anything_has_ended(tmp_path, monkeypatch):
    states = states_of(tmp_path, monkeypatch, Place(nodes=("n1",)), estimates=estimates(GIB))
    # Three trials of 20 s on two processors and 10 s with the node to itself each: 30 + 30, less what two have run by now.
    assert states[0]["num_ended"] == 0 and states[0]["eta_s"] == pytest.approx(60, abs=2)
    assert states[0]["blocked_on"]["its fit"] == 3
    assert (states[-1]["num_queued"] == 0 and states[-1]["eta_s"] is None) or states[-1]["eta_s"] >= 0


class Turns(Place):
    """A place that says what the clock of the driver shows; measurements of a block take 5 s each, one after another."""

    def __init__(self):
        super().__init__(nodes=("n1",))
        self.now = 0.0

    def monotonic(self):
        return self.now

    def poll(self, timeout_s, hear):
        if any(command.exclusive for command, _ in self._running.values()) and self.now < 15:
            self.now += 5
            return []
        return super().poll(timeout_s, hear)


def test_the_time_left_of_measurements_that_take_turns_falls_as_the_clock_goes_on(tmp_path, monkeypatch):
    from moodbench.benchmark import driver

    monkeypatch.setattr(driver.time, "monotonic", (place := Turns()).monotonic)
    states = [s for s in states_of(tmp_path, monkeypatch, place, estimates=estimates(GIB)) if s["num_in_turns"]]
    assert [(s["num_running"], s["num_in_turns"]) for s in states] == [(1, 2)] * len(states), "one process at a time"
    assert [s["eta_s"] for s in states] == pytest.approx([30, 25, 20, 15]), "two of 10 s in the block, one waits"


def test_without_estimates_no_time_left_is_invented(tmp_path, monkeypatch):
    assert states_of(tmp_path, monkeypatch, Place(nodes=("n1",)))[0]["eta_s"] is None


def test_what_has_not_begun_is_no_running_task_and_the_wait_for_room_is_said(tmp_path, monkeypatch):
    from moodbench.benchmark import driver

    monkeypatch.setattr(driver, "WAITING_AFTER_S", -1.0)
    place = Place(nodes=("n1",))
    place.pending = {f"{TRIALS[0].fit.fit_id}-train"}
    states = states_of(tmp_path, monkeypatch, place)
    first = next(s for s in states if s["num_starting"])
    assert (first["num_starting"], first["num_running"]) == (1, 1)
    assert first["no_room"] == {"n1": "0 of 2 CPUs"} and not any(s["no_room"] for s in states if not s["num_starting"])


def test_what_never_began_is_tried_again_and_puts_no_node_in_quarantine(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("not started", "no room") if phase == "fit" and attempt <= 3 else Outcome("ok")

    summary, events = play(tmp_path, Place(script, nodes=("n1", "n2")))
    assert (summary.num_committed, summary.failures) == (9, [])
    assert sum(e.get("outcome") == "not started" for e in events) == 9
    assert not any(e["event"] == "node_quarantined" for e in events)
    assert summary.accounting.failed_attempts_s == 0, "nothing ran"


def test_a_lost_block_of_measurements_counts_once_against_its_node(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("infrastructure", "gone") if phase == "measure" and attempt == 1 else Outcome("ok")

    place = Place(script, nodes=("n1", "n2"))
    place.drain_at = None
    summary, events = play(tmp_path, place)
    lost = [e for e in events if e.get("outcome") == "infrastructure"]
    assert sorted(Counter(e["node"] for e in lost).values()) == [1, 2] and summary.num_committed == 9
    assert not any(e["event"] == "node_quarantined" for e in events)


def test_a_measurement_whose_kind_of_machine_left_under_a_running_fit_fails_and_the_run_ends(tmp_path):
    class Leaving(Place):
        """The measuring node leaves as soon as a fit runs on the other; that fit ends later."""

        def nodes(self):
            if self._running:
                self._nodes = [each for each in self._nodes if each.machine_key != MACHINE.machine_key]
            return tuple(self._nodes)

        def poll(self, timeout_s, hear):
            self.looks += 1
            assert self.looks < 200, "the run waits for what can never come"
            return super().poll(timeout_s, hear) if self.looks % 4 == 0 else []

    place = Leaving(nodes=(node("measures"), replace(node("other"), machine_key="another")))
    place.looks = 0
    summary, _ = play(tmp_path, place)
    assert summary.num_committed == 6, "fits and evaluations"
    assert len(summary.failures) == 3


def test_a_block_that_was_done_when_its_worker_was_lost_names_the_loss_in_the_quarantine_of_its_node(
    tmp_path, monkeypatch
):
    class Lost(Place):
        def poll(self, timeout_s, hear):
            blocks = {k for k, (c, _) in self._running.items() if len(Job.model_validate_json(c.stdin).phases) == 2
                      and '"phase":"measure"' in c.stdin.replace(" ", "")}  # fmt: skip
            lost = Outcome("infrastructure", "no sign of life")
            return [Ended(e.key, lost) if e.key in blocks else e for e in super().poll(timeout_s, hear)]

    monkeypatch.setattr("moodbench.schedule.retries.QUARANTINE_AFTER", 1)
    place = Lost(nodes=("n1", "n2"))
    place.drain_at = None
    summary, events = play(tmp_path, place)
    assert (summary.num_committed, summary.failures) == (9, [])
    assert [e["detail"] for e in events if e["event"] == "node_quarantined"] == ["no sign of life"]


def test_a_measurement_that_hangs_does_not_take_its_neighbours_down(tmp_path):
    """The block of three passes its deadline; then each is measured alone, and only the one at fault is given up."""

    class Hanging(Place):
        def poll(self, timeout_s, hear):
            for key, (command, _) in list(self._running.items()):
                phases = Job.model_validate_json(command.stdin).phases
                if phases[0].phase == "measure" and any(p.spec.fit.model.name == "vader" for p in phases):
                    del self._running[key]
                    self.blocks.append(len(phases))
                    return [Ended(key, Outcome("deadline", "no end after 900 s"))]
            return super().poll(timeout_s, hear)

    place = Hanging(nodes=("n1",))
    place.blocks, place.drain_at = [], None
    summary, _ = play(tmp_path, place)
    assert place.blocks == [3, 1]
    assert summary.num_committed == 8
    assert summary.failures == ["vader · icwsm-product · seed 0: deadline: no end after 900 s"]


def test_a_deadline_follows_the_estimate_for_the_nodes_kind_of_machine_and_is_generous_without_one(tmp_path):
    quick, slow = (node(n) for n in ("quick", "slow"))
    slow = replace(slow, machine_key="another")
    place = Place(nodes=(slow,))
    by_fit = estimates(GIB)[MACHINE.machine_key]
    part = PhaseEstimate(500.0, GIB)
    slower = {fit_id: TrialEstimate(part, part, part) for fit_id in by_fit}
    place._nodes.append(quick)
    play(tmp_path / "a", place, estimates={MACHINE.machine_key: by_fit, "another": slower})
    # 10 x (fit and evaluation) + 900 s: 10 x 20 on the one kind, 10 x 1,000 on the other.
    assert {s for key, s in place.deadlines_s.items() if key.endswith("-train")} == {1100.0, 10_900.0}
    unknown = Place()
    play(tmp_path / "b", unknown)
    assert set(unknown.deadlines_s.values()) == {86_400.0}


def test_a_measurement_too_big_for_its_machines_is_refused_before_anything_starts(tmp_path):
    small, large = PhaseEstimate(10.0, GIB), PhaseEstimate(10.0, 6 * GIB)
    asked = {trial.fit.fit_id: TrialEstimate(small, small, large) for trial in TRIALS}
    place = Place(nodes=(node("small", 2 * GIB), node("large", 4 * GIB)))
    with pytest.raises(PrerequisiteError, match=r"6\.0 GiB of memory; small has 2\.0 GiB of memory"):
        play(tmp_path, place, estimates={MACHINE.machine_key: asked})
    assert place.ran == []
