"""The policy on tables worked out by hand."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from schedule_tasks import INFRASTRUCTURE, OK, fit, measurement, node, simulate, started

from moodbench.hardware import GIB
from moodbench.runtime.process import Outcome
from moodbench.schedule import Need, Scheduler, Task
from moodbench.schedule.accounting import Capacity, Ledger, Spent, efficiency, lower_bound_s
from moodbench.schedule.policy import PATIENCE
from moodbench.schedule.resources import dominant_share, impossible


def test_long_tasks_start_first_and_short_ones_fill_the_gaps():
    scheduler = Scheduler([fit("short", 1, 5), fit("wide", 3, 5), fit("long", 2, 9)], [node(cpus=4)])
    # Share x time: long 2/4 x 9 = 4.5, wide 3/4 x 5 = 3.75, short 1/4 x 5; wide does not fit beside long, short does.
    assert started(scheduler) == [("n", ("long",)), ("n", ("short",))]
    scheduler.ended("long", OK)
    assert started(scheduler) == [("n", ("wide",))]


def test_tasks_are_spread_over_equal_nodes_and_leave_gpus_to_those_that_need_them():
    nodes = [node("gpu", 4, gpus=1, vram=24 * GIB), node("a", 4), node("b", 4)]
    scheduler = Scheduler([fit("x"), fit("y"), fit("z", vram=20 * GIB, device="cuda")], nodes)
    assert sorted(started(scheduler)) == [("a", ("x",)), ("b", ("y",)), ("gpu", ("z",))]


def test_the_cheaper_of_two_nodes_is_taken():
    scheduler = Scheduler([fit("x")], [node("dear", price=3.0), node("cheap", price=1.0)])
    assert started(scheduler) == [("cheap", ("x",))]


def test_a_quick_dear_node_is_cheaper_than_a_slow_cheap_one_when_it_is_that_much_quicker():
    nodes = [
        replace(node("dear", price=3.0), machine_key="quick"),
        replace(node("cheap", price=1.0), machine_key="slow"),
    ]

    def chosen(quick_s, slow_s):
        return started(Scheduler([replace(fit("x"), seconds_at={"quick": quick_s, "slow": slow_s})], nodes))[0][0]

    assert chosen(10, 40) == "dear", "30 against 40"
    assert chosen(10, 20) == "cheap", "30 against 20"
    unpriced = [replace(each, price_per_hour=None) for each in nodes]
    (start,) = Scheduler([replace(fit("x"), seconds_at={"quick": 10, "slow": 40})], unpriced).start()
    assert start.node.name == "dear", "where nothing has a price, the quicker one"


def test_a_task_is_as_long_as_its_estimate_for_the_kind_of_machine_it_is_on():
    task = replace(fit("x", seconds=7), seconds_at={"a": 1.0, "b": 5.0})
    assert [task.seconds_on(node(key=key)) for key in "abc"] == [1.0, 5.0, 7.0]


def test_gpu_shares_are_of_one_gpu_and_round_up():
    a10g, a100 = node("a", gpus=1, vram=24 * GIB), node("b", gpus=2, vram=80 * GIB)
    need = Need(device="cuda", gpu_memory_bytes=7 * GIB)
    assert need.gpus_on(a10g) == 0.2917  # 7/24 = 0.29166..., rounded up to a 10,000th
    assert need.gpus_on(a100) == 0.0875
    assert replace(need, gpu_memory_bytes=13 * GIB).gpus_on(a10g) == 1.0, "above a half it gets a whole one"
    assert math.isinf(replace(need, gpu_memory_bytes=25 * GIB).gpus_on(a10g))
    assert Need(device="cuda").gpus_on(a10g) == 1.0, "an unknown need is a whole one"
    assert Need().gpus_on(a10g) == 0.0


def test_what_one_gpu_does_not_hold_is_spread_over_several_of_one_node_where_it_can_be():
    # 59 of 60 GiB are spread; of 24 GiB, 1 is taken on each: 0.8 x 23 = 18.4 GiB, so 3 hold 55.2 and 4 hold 73.6.
    need = Need(device="cuda", gpu_memory_bytes=60 * GIB, gpu_fixed_bytes=GIB)
    assert need.gpus_on(node(gpus=4, vram=24 * GIB)) == 4
    assert need.gpus_on(node(gpus=8, vram=24 * GIB)) == 4
    assert math.isinf(need.gpus_on(node(gpus=3, vram=24 * GIB)))
    assert need.gpus_on(node(gpus=1, vram=80 * GIB)) == 1, "one holds it"
    assert math.isinf(need.gpus_on(node(gpus=4, vram=GIB))), "each is full already"
    assert math.isinf(replace(need, gpu_fixed_bytes=None).gpus_on(node(gpus=4, vram=24 * GIB)))
    few = impossible([Task("big", need)], [node("n2", gpus=3, vram=24 * GIB), node("n3", gpus=1, vram=24 * GIB)])
    assert few["big"].endswith(
        "60.0 GiB on one GPU or spread over several; n2 has 3 GPUs of 24 GiB, n3 has 1 GPU of 24 GiB"
    )


def test_a_fit_spread_over_two_gpus_waits_for_two_that_are_wholly_free():
    two_gpus = {"vram": 30 * GIB, "device": "cuda", "fixed": GIB}
    tasks = [fit("small", seconds=99, vram=2 * GIB, device="cuda"), fit("big", seconds=1, **two_gpus)]
    scheduler = Scheduler(tasks, [node(cpus=9, gpus=2, vram=24 * GIB)])
    assert started(scheduler) == [("n", ("small",))], "one and eleven twelfths are free"
    scheduler.ended("small", OK)
    assert started(scheduler) == [("n", ("big",))]
    assert scheduler._nodes["n"].gpus == [1, 1]
    scheduler.ended("big", OK)
    assert scheduler._nodes["n"].gpus == [0, 0]
    both = Scheduler([fit("a", **two_gpus), fit("b", **two_gpus)], [node(cpus=9, gpus=4, vram=24 * GIB)])
    assert started(both) == [("n", ("a",)), ("n", ("b",))]


def test_shares_of_two_gpus_are_never_added_up_to_one():
    # 0.4 of 24 GiB each: two on the first GPU, one on the second; a whole one fits on neither, though 0.8 is free in all.
    tasks = [fit(f"x{i}", seconds=9 - i, vram=int(9.6 * GIB), device="cuda") for i in range(3)]
    scheduler = Scheduler([*tasks, fit("whole", vram=20 * GIB, device="cuda", seconds=0.1)], [
        node(cpus=9, gpus=2, vram=24 * GIB)
    ])  # fmt: skip
    assert [keys for _, keys in started(scheduler)] == [("x0",), ("x1",), ("x2",)]
    scheduler.ended("x2", OK)
    assert started(scheduler) == [("n", ("whole",))]


def test_measurements_wait_for_their_fits_and_come_in_one_block_when_nothing_packed_is_left():
    tasks = [fit("a"), fit("b"), *(measurement(f"m{k}", k) for k in "ab")]
    scheduler = Scheduler(tasks, [node(cpus=1)])
    assert started(scheduler) == [("n", ("a",))]
    scheduler.ended("a", OK)
    assert started(scheduler) == [("n", ("b",))], "without draining, packed tasks go first"
    assert started(scheduler) == []
    scheduler.ended("b", OK)
    assert started(scheduler) == [("n", ("ma", "mb"))]


def test_a_node_is_drained_when_enough_measurements_wait_and_refilled_after_them():
    tasks = [fit("a", seconds=9), fit("b", seconds=8), fit("c", seconds=7), measurement("m1"), measurement("m2")]
    scheduler = Scheduler(tasks[:3], [node(cpus=1)], drain_at=2)
    assert started(scheduler) == [("n", ("a",))]
    scheduler = Scheduler(tasks, [node(cpus=2)], drain_at=3)
    assert started(scheduler) == [("n", ("a",)), ("n", ("b",))], "two are not enough to drain for"
    scheduler = Scheduler(tasks, [node(cpus=2)], drain_at=2)
    assert started(scheduler) == [("n", ("m1", "m2"))]
    for key in ("m1", "m2"):
        assert scheduler.start() == []
        scheduler.ended(key, OK)
    assert [keys for _, keys in started(scheduler)] == [("a",), ("b",)]


def test_one_node_drains_while_the_other_goes_on():
    nodes = [node("n1", 2), node("n2", 2)]
    tasks = [*(fit(f"f{i}") for i in range(9)), *(measurement(f"m{i}", "f0") for i in range(4))]
    scheduler = Scheduler(tasks, nodes, drain_at=4)
    where = {keys[0]: name for name, keys in started(scheduler)}
    assert Counter(where.values()) == {"n1": 2, "n2": 2}
    scheduler.ended("f0", OK)
    assert started(scheduler) == [], "the emptier node takes no more fits, the other is full"
    other = next(k for k, n in where.items() if k != "f0" and n == where["f0"])
    scheduler.ended(other, OK)
    assert started(scheduler) == [(where["f0"], ("m0", "m1", "m2", "m3"))]


def test_a_node_that_the_waiting_measurements_avoid_takes_packed_tasks_again():
    tasks = [*(fit(f"f{i}") for i in range(20)), *(measurement(f"m{i}") for i in range(4))]
    scheduler = Scheduler(tasks, [node("n1", 1), node("n2", 1)], drain_at=4)
    where = {keys: name for name, keys in started(scheduler)}
    block = next(keys for keys in where if len(keys) > 1)
    for key in block:
        scheduler.ended(key, INFRASTRUCTURE)
    name = where[block]
    assert any(n == name and keys[0].startswith("f") for n, keys in started(scheduler))
    (other,) = {"n1", "n2"} - {name}
    (busy,) = [key for key, (_, at) in scheduler.running.items() if at.name == other]
    scheduler.ended(busy, OK)
    assert (other, ("m0",)) in started(scheduler), "the other one is drained for them"


def test_what_failed_in_a_block_is_measured_alone_and_asks_for_no_more_of_a_node_it_has_to_itself():
    tasks = [replace(measurement(f"m{i}"), need=Need(memory_bytes=3 * GIB)) for i in range(4)]
    scheduler = Scheduler(tasks, [node(memory=4 * GIB)])
    assert started(scheduler) == [("n", ("m0", "m1", "m2", "m3"))]
    for i in range(4):
        retry = scheduler.ended(f"m{i}", Outcome("out of memory", peak_bytes=4 * GIB)).retry
        assert retry.need.memory_bytes == 3 * GIB, "whose fault it was is not known"
    assert started(scheduler) == [("n", ("m0",))]
    assert scheduler.ended("m0", Outcome("out of memory", peak_bytes=4 * GIB)).retry is None, "this time it is: too big"
    assert started(scheduler) == [("n", ("m1",))]
    scheduler.ended("m1", OK)
    assert started(scheduler) == [("n", ("m2",))]


def test_measurements_go_only_to_their_kind_of_machine():
    nodes = [node("n1", key="x"), node("n2", key="y")]
    scheduler = Scheduler([measurement("m", machine="y")], nodes)
    assert started(scheduler) == [("n2", ("m",))]


def test_what_no_node_can_run_is_said_with_what_is_missing_where():
    nodes = [node("n2", 2, 4 * GIB, gpus=1, vram=24 * GIB), node("n4", 2, 2 * GIB)]
    tasks = [fit("big", memory=8 * GIB), fit("cuda", vram=30 * GIB, device="cuda"), fit("fine")]
    assert impossible(tasks, nodes) == {
        "big": "big: needs 1 CPU, 8.0 GiB of memory; n2 has 4.0 GiB of memory, n4 has 2.0 GiB of memory",
        "cuda": "cuda: needs 1 CPU, device cuda, 30.0 GiB on one GPU; n2 has GPUs of 24 GiB, n4 has no device cuda",
    }
    assert impossible(tasks[2:], []) == {"fine": "fine: needs 1 CPU, but there is no node"}


def test_dominant_share_is_the_largest_over_cpus_memory_and_gpus():
    nodes = [node("a", 6, 30 * GIB, gpus=1, vram=10 * GIB), node("b", 2, 10 * GIB)]
    assert dominant_share(Need(2, 4 * GIB), nodes) == pytest.approx(2 / 8)
    assert dominant_share(Need(1, 10 * GIB), nodes) == pytest.approx(10 / 40)
    assert dominant_share(Need(1, GIB, "cuda", 4 * GIB), nodes) == pytest.approx(0.4)


def test_a_wide_task_is_not_overtaken_for_ever():
    # Two processors and narrow tasks of odd lengths: without a reservation one of them would always be running.
    narrow = [fit(f"n{i:02}", 1, 60.0 - i) for i in range(40)]
    scheduler = Scheduler([fit("wide", 2, 20.25), *narrow], [node(cpus=2)])
    order = simulate(scheduler, lambda task: task.seconds).order
    # By share x time 20 narrow ones go before it (60 to 41 s on half the node, 20.25 s on all of it).
    assert set(order[:20]) == {f"n{i:02}" for i in range(20)}
    assert 20 < order.index("wide") <= 20 + PATIENCE + 1


def test_capacity_is_what_was_there_while_it_was_there():
    a, b = node("a", 2), node("b", 3)
    there = Capacity.of([a]).then(10, [a, b]).then(20, [b])
    # 2 x 10, then 5 x 10, then 3 for as long as it goes on.
    assert [there.total("num_cpus", t) for t in (5, 10, 20, 30)] == [10, 20, 70, 100]
    assert there.seconds_for(20, "num_cpus", {"a", "b"}) == 10
    assert there.seconds_for(45, "num_cpus", {"a", "b"}) == 15
    assert there.seconds_for(85, "num_cpus", {"a", "b"}) == 25
    assert there.seconds_for(6, "num_cpus", {"b"}) == 12, "b came after 10 s"
    assert math.isinf(there.seconds_for(41, "num_cpus", {"a"})), "a had given 40 when it left"
    assert there.seconds_for(1e18, "memory_bytes", {"a"}) == 0, "where memory has no end, none is waited for"


def test_the_bound_and_the_efficiency_count_a_node_only_while_it_was_there():
    a, b = node("a", 1), node("b", 1)
    spent = [Spent(fit(f"f{i}"), 10.0) for i in range(4)]
    # Two nodes for 10 s, then one: 20 CPU seconds by then, the other 20 by 30 s. By what is left at the end: 40 s.
    left = Capacity.of([a, b]).then(10, [a])
    assert lower_bound_s(spent, left) == 30
    assert efficiency(spent, left, 40) == pytest.approx(40 / 50)
    assert efficiency(spent, Capacity.of([a]).then(30, [a, b]), 40) == pytest.approx(40 / 50)


def test_the_account_of_a_run_by_hand():
    ledger = Ledger([node("a", 2)])
    ledger.idle(0, {})
    ledger.ended(fit("x"), 10.0, well=False)
    ledger.idle(10, {"no fit": 1.0})
    ledger.idle(14, {"drain": 1.0})
    ledger.idle(16, {})
    ledger.ended(fit("x"), 5.0, well=True, waited_s=3.0)
    ledger.not_started(fit("x"), 2.0)
    ledger.ended(measurement("m"), 2.0, well=True)
    ledger.idle(18, {"tail": 2.0})
    account = ledger.closed(20)
    # 40 CPU seconds: 5 + 2 x 2 held well, 10 wasted, 3 + 2 until a process had begun, 4 without a fitting task, 2 draining, 4 at the end.
    assert (account.makespan_s, account.failed_attempts_s) == (20, 10)
    assert (account.efficiency, account.wasted) == (pytest.approx(9 / 40), pytest.approx(10 / 40))
    assert account.starting == pytest.approx(5 / 40)
    assert account.idle == {
        "no fit": pytest.approx(4 / 40),
        "drain": pytest.approx(2 / 40),
        "tail": pytest.approx(4 / 40),
    }
    assert account.lower_bound_s == 5, "the fit alone; 9 CPU seconds would take 4.5"


def test_why_processors_stand_idle():
    scheduler = Scheduler([fit("a", 3), fit("b", 2), measurement("m", "a")], [node(cpus=4)])
    scheduler.start()
    assert scheduler.idle() == {"no fit": 1}, "b does not fit beside a"
    scheduler.ended("a", OK)
    scheduler.start()
    assert scheduler.idle() == {"drain": 2}, "m waits for b to end"
    scheduler.ended("b", OK)
    scheduler.start()
    assert scheduler.idle() == {}, "a measurement has it all"
    scheduler.ended("m", OK)
    assert scheduler.idle() == {"tail": 4}
