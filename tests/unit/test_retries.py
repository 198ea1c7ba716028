"""What becomes of a task that failed, and of the node that it failed on."""

import pytest
from schedule_tasks import INFRASTRUCTURE, OK, fit, measurement, node, started

from moodbench.hardware import GIB
from moodbench.runtime.process import Outcome
from moodbench.schedule import Scheduler
from moodbench.schedule.resources import MAX_RETRIES, QUARANTINE_AFTER, Quarantine, next_attempt


def attempts(kind):
    task, ends = fit("a", memory=2 * GIB), 0
    while task is not None:
        task, ends = next_attempt(task, Outcome(kind), f"n{ends}"), ends + 1
    return ends


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("infrastructure", 4),
        ("out of memory", 3),
        ("deadline", 2),
        ("crash", 2),
        ("program error", 1),
        ("not started", 41),
    ],
)
def test_each_kind_of_end_has_its_number_of_attempts(kind, expected):
    assert attempts(kind) == expected == 1 + MAX_RETRIES[kind]


def test_out_of_memory_asks_for_half_as_much_again_of_what_was_asked_or_seen():
    task = fit("a", memory=2 * GIB)
    assert next_attempt(task, Outcome("out of memory"), "n").need.memory_bytes == 3 * GIB
    assert next_attempt(task, Outcome("out of memory", peak_bytes=4 * GIB), "n").need.memory_bytes == 6 * GIB


def test_a_full_gpu_asks_for_more_of_the_gpu_first_the_whole_of_it_then_a_second():
    full = Outcome("out of memory", on_gpu=True)
    scheduler = Scheduler([fit("a", memory=GIB, vram=9 * GIB, device="cuda", fixed=GIB)], [node(gpus=2, vram=24 * GIB)])
    asked = []
    for _ in range(3):
        ((task, where),) = [scheduler.running[key] for start in scheduler.start() for key in (start.tasks[0].key,)]
        asked.append((task.need.gpu_memory_bytes / GIB, task.need.gpus_on(where), task.need.memory_bytes / GIB))
        after = scheduler.ended("a", full)
    # 9 GiB are 0.375 of the GPU; 13.5 are more than half of it, so it got all 24, and they were not enough: 36.
    assert asked == [(9, 0.375, 1), (13.5, 1, 1), (36, 2, 1)] and after.retry is None


def test_a_full_gpu_is_final_for_what_cannot_be_spread():
    scheduler = Scheduler([fit("a", vram=20 * GIB, device="cuda")], [node(gpus=2, vram=24 * GIB)])
    scheduler.start()
    assert scheduler.ended("a", Outcome("out of memory", on_gpu=True)).retry is None


def test_a_task_of_unknown_need_that_ran_out_of_memory_asks_for_more_than_its_share_and_goes_elsewhere():
    assert next_attempt(fit("a"), Outcome("out of memory"), "n", 2 * GIB).need.memory_bytes == 3 * GIB
    scheduler = Scheduler(
        [fit("a", seconds=2), fit("b")], [node("small", 2, 4 * GIB), node("large", 2, 8 * GIB, price=1.0)]
    )
    assert started(scheduler) == [("small", ("a",)), ("small", ("b",))]
    retry = scheduler.ended("a", Outcome("out of memory")).retry
    assert retry.need.memory_bytes == 3 * GIB, "each of two had 2 GiB"
    assert started(scheduler) == [("large", ("a",))]


def test_a_task_too_big_for_every_node_fails_instead_of_waiting_and_takes_its_measurement_along():
    scheduler = Scheduler([fit("a", memory=3 * GIB), measurement("m", "a")], [node(memory=4 * GIB)])
    scheduler.start()
    after = scheduler.ended("a", Outcome("out of memory"))
    assert (after.retry, [task.key for task in after.dropped]) == (None, ["m"])
    assert scheduler.num_waiting == 0


def test_what_ran_out_of_memory_beside_others_gets_the_whole_of_a_node_once_before_it_fails():
    scheduler = Scheduler([fit("a", memory=11 * GIB), fit("b", memory=5 * GIB)], [node(memory=16 * GIB)])
    assert started(scheduler) == [("n", ("a",)), ("n", ("b",))]
    retry = scheduler.ended("a", Outcome("out of memory", peak_bytes=int(11.5 * GIB))).retry
    assert retry.need.memory_bytes == 16 * GIB, "half as much again, 17.25 GiB, no node has"
    assert started(scheduler) == [], "not beside the other"
    scheduler.ended("b", OK)
    assert started(scheduler) == [("n", ("a",))]
    assert scheduler.ended("a", Outcome("out of memory")).retry is None


def test_a_measurement_that_is_given_up_while_its_fit_runs_does_not_come_back():
    scheduler = Scheduler([fit("a"), measurement("m", "a"), measurement("n", "a")], [node()])
    scheduler.start()
    assert scheduler.drop("m") == () and [task.key for task in scheduler.waiting] == ["n"]
    assert scheduler.drop("n") == () and scheduler.num_waiting == 0
    scheduler.ended("a", OK)
    assert scheduler.num_waiting == 0 and started(scheduler) == []


def test_a_lost_task_goes_to_another_node_and_to_the_same_only_if_there_is_no_other():
    scheduler = Scheduler([fit("a")], [node("n1"), node("n2")])
    assert started(scheduler) == [("n1", ("a",))]
    scheduler.ended("a", INFRASTRUCTURE)
    assert started(scheduler) == [("n2", ("a",))]
    scheduler.ended("a", INFRASTRUCTURE)
    assert len(started(scheduler)) == 1, "both have failed it once: any will do"
    alone = Scheduler([fit("a")], [node("n1")])
    for _ in range(4):
        assert started(alone) == [("n1", ("a",))]
        after = alone.ended("a", INFRASTRUCTURE)
    assert after.retry is None


def test_a_node_that_fails_twice_in_a_row_is_left_alone():
    scheduler = Scheduler([fit(f"a{i}") for i in range(9)], [node("bad", 1, price=1.0), node("good", 1, price=2.0)])
    for _ in range(QUARANTINE_AFTER):
        (key,) = [keys[0] for name, keys in started(scheduler) if name == "bad"]
        quarantined = scheduler.note("bad", "infrastructure")
        scheduler.ended(key, INFRASTRUCTURE)
    assert quarantined is not None and quarantined.name == "bad"
    finished = []
    while scheduler.num_waiting or scheduler.running:
        assert all(name == "good" for name, _ in started(scheduler))
        (key,) = scheduler.running
        scheduler.ended(key, OK)
        finished.append(key)
    assert sorted(finished) == [f"a{i}" for i in range(9)]


def test_a_success_in_between_clears_a_node():
    quarantine = Quarantine()
    kinds = ("infrastructure", "ok", "infrastructure", "not started", "infrastructure")
    assert [quarantine.note("n", kind) for kind in kinds] == [False, False, False, False, True]
    assert quarantine.nodes == {"n"}


def test_what_ran_on_a_node_that_left_is_named_and_runs_elsewhere():
    scheduler = Scheduler([fit("a"), fit("b")], [node("n1", 1), node("n2", 1)])
    where = {keys[0]: name for name, keys in started(scheduler)}
    (gone,) = [key for key, name in where.items() if name == "n1"]
    assert scheduler.set_nodes([node("n2", 1)]) == [gone]
    assert scheduler.ended(gone, INFRASTRUCTURE).retry is not None
    assert started(scheduler) == [], "n2 is full and n1 is no more"
    scheduler.set_nodes([node("n2", 1), node("n3", 1)])
    assert started(scheduler) == [("n3", (gone,))]
