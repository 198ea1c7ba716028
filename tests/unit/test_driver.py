"""Driver with a scripted target: which tasks it starts again, gives up, and reports, and what lost nodes cost."""

from collections import Counter
from dataclasses import replace

from scripted_target import MACHINE, PLAN, ScriptedTarget, node, play

from moodbench.benchmark.driver import run_plan
from moodbench.runtime.executor import Ended
from moodbench.runtime.process import Outcome
from moodbench.spec.job import Job
from moodbench.store import Store


def test_every_phase_is_committed_once_and_the_run_says_how_good_its_schedule_was(tmp_path):
    summary, events = play(tmp_path, place := ScriptedTarget())
    assert (summary.num_committed, summary.failures) == (9, [])
    assert len(place.ran) == len({(model, phase) for model, phase, _ in place.ran}) == 9
    assert events[0]["event"] == "run_started" and events[-1]["event"] == "run_ended"
    account = summary.accounting
    assert 0 < account.lower_bound_s <= account.makespan_s == events[-1]["makespan_s"]


def test_a_program_error_is_not_tried_again_and_takes_only_its_own_trial_along(tmp_path):
    def script(model, phase, where, attempt):
        wrong = (model, phase) == ("vader", "evaluate")
        return Outcome("program error", "ValueError: so it goes") if wrong else Outcome("ok")

    summary, _ = play(tmp_path, place := ScriptedTarget(script))
    assert summary.failures == ["vader · icwsm-product · seed 0: program error: ValueError: so it goes"]
    assert sum(model == "vader" for model, _, _ in place.ran) == 2, "no measurement of what was never evaluated"
    assert summary.num_committed == 1 + 6


def test_an_infrastructure_failure_goes_to_the_other_node(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("infrastructure", "gone") if (model, phase, attempt) == ("majority", "fit", 1) else Outcome("ok")

    summary, events = play(tmp_path, place := ScriptedTarget(script))
    first, second = (where for model, phase, where in place.ran if (model, phase) == ("majority", "fit"))
    assert first != second and summary.failures == [] and summary.num_committed == 9
    (bad,) = [e for e in events if e["event"] == "job_ended" and e["outcome"] != "ok"]
    assert (bad["retry"], bad["detail"], bad["node"]) == (True, "gone", first)


def test_one_measurement_of_a_block_may_fail_and_the_others_stand(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("program error", "no") if (model, phase) == ("vader", "measure") else Outcome("ok")

    summary, _ = play(tmp_path, place := ScriptedTarget(script, nodes=("n1",)))
    assert summary.num_committed == 8
    assert summary.failures == ["vader · icwsm-product · seed 0: program error: no"]
    assert sum(phase == "measure" for _, phase, _ in place.ran) == 3


def test_a_block_lost_with_its_node_is_measured_again_but_for_what_it_committed(tmp_path):
    def script(model, phase, where, attempt):
        lost = phase == "measure" and model == "majority" and attempt == 1
        return Outcome("infrastructure", "gone") if lost else Outcome("ok")

    summary, _ = play(tmp_path, place := ScriptedTarget(script, nodes=("n1",)))
    measured = [model for model, phase, _ in place.ran if phase == "measure"]
    assert sorted(measured) == ["majority", "majority", "tfidf-logreg", "vader"]
    assert (summary.num_committed, summary.failures) == (9, [])


def test_a_node_that_leaves_loses_its_commands_to_the_other(tmp_path):
    place = ScriptedTarget(nodes=("n1", "n2"), leaves="n1")
    summary, events = play(tmp_path, place)
    assert place.forgotten and (summary.num_committed, summary.failures) == (9, [])
    assert {where for _, _, where in place.ran} == {"n2"}
    lost = [e for e in events if e.get("detail") == "node n1 left the cluster"]
    assert lost and all(e["retry"] for e in lost)


def test_when_no_node_is_left_the_run_says_so_and_ends(tmp_path):
    summary, _ = play(tmp_path, ScriptedTarget(nodes=("n1",), leaves="n1"))
    assert len(summary.failures) == 3 and summary.num_committed == 0
    assert all("there is no node" in line for line in summary.failures)


def test_the_wait_for_a_node_that_left_is_told_when_it_begins_and_ends_in_time(tmp_path, monkeypatch):
    from moodbench.benchmark import driver

    ticks = iter(range(10**6))
    monkeypatch.setattr(driver.time, "monotonic", lambda: float(next(ticks)))
    place = ScriptedTarget(nodes=("n1",), leaves="n1")
    place.node_return_s = 50.0
    summary, events = play(tmp_path, place)
    told = [e for e in events if e["event"] == "waiting_for_node"]
    assert [e["seconds"] for e in told] == [50.0]
    assert "there is no node; and " in told[0]["detail"], told
    assert len(summary.failures) == 3 and events[-1]["makespan_s"] > 50


def test_a_node_that_comes_back_in_time_takes_up_what_waited(tmp_path):
    place = ScriptedTarget(nodes=("n1",), leaves="n1")
    place.node_return_s = 3600.0
    told = []

    def listen(event):
        told.append(event["event"])
        if event["event"] == "waiting_for_node":
            place._leaves, place._nodes = None, [node("n1 again")]

    summary = run_plan(PLAN, Store.open(tmp_path / "store"), place, listen=listen)
    assert (summary.num_committed, summary.failures) == (9, []) and "waiting_for_node" in told


def test_what_never_began_is_tried_again_and_puts_no_node_in_quarantine(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("not started", "no room") if phase == "fit" and attempt <= 3 else Outcome("ok")

    summary, events = play(tmp_path, ScriptedTarget(script, nodes=("n1", "n2")))
    assert (summary.num_committed, summary.failures) == (9, [])
    assert sum(e.get("outcome") == "not started" for e in events) == 9
    assert not any(e["event"] == "node_quarantined" for e in events)
    assert summary.accounting.failed_attempts_s == 0, "nothing ran"


def test_a_lost_block_of_measurements_counts_once_against_its_node(tmp_path):
    def script(model, phase, where, attempt):
        return Outcome("infrastructure", "gone") if phase == "measure" and attempt == 1 else Outcome("ok")

    place = ScriptedTarget(script, nodes=("n1", "n2"))
    place.drain_at = None
    summary, events = play(tmp_path, place)
    lost = [e for e in events if e.get("outcome") == "infrastructure"]
    assert sorted(Counter(e["node"] for e in lost).values()) == [1, 2] and summary.num_committed == 9
    assert not any(e["event"] == "node_quarantined" for e in events)


def test_a_measurement_whose_kind_of_machine_left_under_a_running_fit_fails_and_the_run_ends(tmp_path):
    class Leaving(ScriptedTarget):
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
    class Lost(ScriptedTarget):
        def poll(self, timeout_s, hear):
            blocks = {k for k, (c, _) in self._running.items() if len(Job.model_validate_json(c.stdin).phases) == 2
                      and '"phase":"measure"' in c.stdin.replace(" ", "")}  # fmt: skip
            lost = Outcome("infrastructure", "no sign of life")
            return [Ended(e.key, lost) if e.key in blocks else e for e in super().poll(timeout_s, hear)]

    monkeypatch.setattr("moodbench.schedule.resources.QUARANTINE_AFTER", 1)
    place = Lost(nodes=("n1", "n2"))
    place.drain_at = None
    summary, events = play(tmp_path, place)
    assert (summary.num_committed, summary.failures) == (9, [])
    assert [e["detail"] for e in events if e["event"] == "node_quarantined"] == ["no sign of life"]


def test_a_measurement_that_hangs_does_not_take_its_neighbours_down(tmp_path):
    """The block of three passes its deadline; then each is measured alone, and only the one at fault is given up."""

    class Hanging(ScriptedTarget):
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
