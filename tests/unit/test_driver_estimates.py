"""Driver with estimates, on a scripted target: what it refuses, the GPUs and deadlines of commands, and the ETA."""

from dataclasses import replace

import pytest
from scripted_target import MACHINE, TRIALS, ScriptedTarget, node, play

from moodbench.benchmark.plan import make_plan
from moodbench.benchmark.resolve import resolve
from moodbench.benchmark.target import node_of
from moodbench.benchmark.tasks import command_of, tasks_of
from moodbench.config import load_catalogue
from moodbench.errors import PrerequisiteError
from moodbench.estimate import PhaseEstimate, TrialEstimate
from moodbench.hardware import GIB, Gpu
from moodbench.spec import BenchmarkSpec
from moodbench.spec.job import Job


def estimates(memory):
    part = PhaseEstimate(10.0, memory)
    return {MACHINE.machine_key: {trial.fit.fit_id: TrialEstimate(part, part, part) for trial in TRIALS}}


def test_what_no_node_can_ever_run_is_refused_before_anything_starts(tmp_path):
    place = ScriptedTarget(nodes=(node("small", 2 * GIB), node("large", 4 * GIB)))
    with pytest.raises(PrerequisiteError) as refusal:
        play(tmp_path, place, estimates=estimates(6 * GIB))
    said = str(refusal.value)
    assert "6.0 GiB of memory; small has 2.0 GiB of memory, large has 4.0 GiB of memory" in said
    assert "Nothing was started" in said and place.ran == []


def test_on_a_machine_alone_an_estimate_is_no_reason_not_to_try(tmp_path):
    place = ScriptedTarget(nodes=(node("here", 4 * GIB),))
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
    states = states_of(tmp_path, monkeypatch, ScriptedTarget(nodes=("n1",)), estimates=estimates(GIB))
    # Three trials of 20 s on two processors and 10 s with the node to itself each: 30 + 30, less what two have run by now.
    assert states[0]["num_ended"] == 0 and states[0]["eta_s"] == pytest.approx(60, abs=2)
    assert states[0]["blocked_on"]["its fit"] == 3
    assert (states[-1]["num_queued"] == 0 and states[-1]["eta_s"] is None) or states[-1]["eta_s"] >= 0


class Turns(ScriptedTarget):
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
    assert states_of(tmp_path, monkeypatch, ScriptedTarget(nodes=("n1",)))[0]["eta_s"] is None


def test_what_has_not_begun_is_no_running_task_and_the_wait_for_room_is_said(tmp_path, monkeypatch):
    from moodbench.benchmark import driver

    monkeypatch.setattr(driver, "WAITING_AFTER_S", -1.0)
    place = ScriptedTarget(nodes=("n1",))
    place.pending = {f"{TRIALS[0].fit.fit_id}-train"}
    states = states_of(tmp_path, monkeypatch, place)
    first = next(s for s in states if s["num_starting"])
    assert (first["num_starting"], first["num_running"]) == (1, 1)
    assert first["no_room"] == {"n1": "0 of 2 CPUs"} and not any(s["no_room"] for s in states if not s["num_starting"])


def test_a_deadline_follows_the_estimate_for_the_nodes_kind_of_machine_and_is_generous_without_one(tmp_path):
    quick, slow = (node(n) for n in ("quick", "slow"))
    slow = replace(slow, machine_key="another")
    place = ScriptedTarget(nodes=(slow,))
    by_fit = estimates(GIB)[MACHINE.machine_key]
    part = PhaseEstimate(500.0, GIB)
    slower = {fit_id: TrialEstimate(part, part, part) for fit_id in by_fit}
    place._nodes.append(quick)
    play(tmp_path / "a", place, estimates={MACHINE.machine_key: by_fit, "another": slower})
    # 10 x (fit and evaluation) + 900 s: 10 x 20 on the one kind, 10 x 1,000 on the other.
    assert {s for key, s in place.deadlines_s.items() if key.endswith("-train")} == {1100.0, 10_900.0}
    unknown = ScriptedTarget()
    play(tmp_path / "b", unknown)
    assert set(unknown.deadlines_s.values()) == {86_400.0}


def test_a_measurement_too_big_for_its_machines_is_refused_before_anything_starts(tmp_path):
    small, large = PhaseEstimate(10.0, GIB), PhaseEstimate(10.0, 6 * GIB)
    asked = {trial.fit.fit_id: TrialEstimate(small, small, large) for trial in TRIALS}
    place = ScriptedTarget(nodes=(node("small", 2 * GIB), node("large", 4 * GIB)))
    with pytest.raises(PrerequisiteError, match=r"6\.0 GiB of memory; small has 2\.0 GiB of memory"):
        play(tmp_path, place, estimates={MACHINE.machine_key: asked})
    assert place.ran == []
