"""The policy as a simulated cluster sees it: worked-out tables, and properties that must hold whatever ends first."""

import heapq
import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moodbench.schedule import Need, Node, Outcome, Scheduler, Task
from moodbench.schedule.accounting import Ledger
from moodbench.schedule.bound import Spent, efficiency, lower_bound_s
from moodbench.schedule.capacity import Capacity
from moodbench.schedule.policy import PATIENCE
from moodbench.schedule.resources import GIB, dominant_share, impossible
from moodbench.schedule.retry import MAX_RETRIES, QUARANTINE_AFTER, Quarantine, next_attempt

OK, INFRASTRUCTURE = Outcome("ok"), Outcome("infrastructure")


def node(name="n", cpus=4, memory=math.inf, gpus=0, vram=0, key="m", price=None):
    devices = frozenset({"cpu", "cuda"} if gpus else {"cpu"})
    return Node(name, name, "cpu", cpus, memory, gpus, vram, devices, key, price)


def fit(key, cpus=1, seconds=1.0, memory=0, vram=0, device="cpu", fixed=None):
    return Task(key, Need(cpus, memory, device, vram, gpu_fixed_bytes=fixed), seconds=seconds)


def measurement(key, after=None, seconds=1.0, machine=None):
    return Task(key, Need(machine_key=machine), exclusive=True, seconds=seconds, after=after)


def started(scheduler):
    return [(start.node.name, tuple(task.key for task in start.tasks)) for start in scheduler.start()]


# Worked out by hand.


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
    assert scheduler._places["n"].gpus == [1, 1]
    scheduler.ended("big", OK)
    assert scheduler._places["n"].gpus == [0, 0]
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


def test_what_failed_in_a_block_is_measured_alone_and_asks_for_no_more_of_a_node_it_has_to_itself():
    tasks = [replace(measurement(f"m{i}"), need=Need(memory_bytes=3 * GIB)) for i in range(4)]
    scheduler = Scheduler(tasks, [node(memory=4 * GIB)])
    assert started(scheduler) == [("n", ("m0", "m1", "m2", "m3"))]
    for i in range(4):
        again = scheduler.ended(f"m{i}", Outcome("out of memory", peak_bytes=4 * GIB)).again
        assert again.need.memory_bytes == 3 * GIB, "whose fault it was is not known"
    assert started(scheduler) == [("n", ("m0",))]
    assert scheduler.ended("m0", Outcome("out of memory", peak_bytes=4 * GIB)).again is None, "this time it is: too big"
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
    assert impossible(tasks[2:], []) == {"fine": "fine: needs 1 CPU, and no node is there"}


def test_dominant_share_is_the_largest_over_cpus_memory_and_gpus():
    nodes = [node("a", 6, 30 * GIB, gpus=1, vram=10 * GIB), node("b", 2, 10 * GIB)]
    assert dominant_share(Need(2, 4 * GIB), nodes) == pytest.approx(2 / 8)
    assert dominant_share(Need(1, 10 * GIB), nodes) == pytest.approx(10 / 40)
    assert dominant_share(Need(1, GIB, "cuda", 4 * GIB), nodes) == pytest.approx(0.4)


# What follows a failure.


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
    assert asked == [(9, 0.375, 1), (13.5, 1, 1), (36, 2, 1)] and after.again is None


def test_a_full_gpu_is_final_for_what_cannot_be_spread():
    scheduler = Scheduler([fit("a", vram=20 * GIB, device="cuda")], [node(gpus=2, vram=24 * GIB)])
    scheduler.start()
    assert scheduler.ended("a", Outcome("out of memory", on_gpu=True)).again is None


def test_a_task_of_unknown_need_that_ran_out_of_memory_asks_for_more_than_its_share_and_goes_elsewhere():
    assert next_attempt(fit("a"), Outcome("out of memory"), "n", 2 * GIB).need.memory_bytes == 3 * GIB
    scheduler = Scheduler(
        [fit("a", seconds=2), fit("b")], [node("small", 2, 4 * GIB), node("large", 2, 8 * GIB, price=1.0)]
    )
    assert started(scheduler) == [("small", ("a",)), ("small", ("b",))]
    again = scheduler.ended("a", Outcome("out of memory")).again
    assert again.need.memory_bytes == 3 * GIB, "each of two had 2 GiB"
    assert started(scheduler) == [("large", ("a",))]


def test_a_task_too_big_for_every_node_fails_instead_of_waiting_and_takes_its_measurement_along():
    scheduler = Scheduler([fit("a", memory=3 * GIB), measurement("m", "a")], [node(memory=4 * GIB)])
    scheduler.start()
    after = scheduler.ended("a", Outcome("out of memory"))
    assert (after.again, [task.key for task in after.dropped]) == (None, ["m"])
    assert scheduler.num_waiting == 0


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
    assert after.again is None


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
    assert scheduler.ended(gone, INFRASTRUCTURE).again is not None
    assert started(scheduler) == [], "n2 is full and n1 is no more"
    scheduler.set_nodes([node("n2", 1), node("n3", 1)])
    assert started(scheduler) == [("n3", (gone,))]


def test_a_wide_task_is_not_overtaken_for_ever():
    # Two processors and narrow tasks of odd lengths: without a reservation one of them would always be running.
    narrow = [fit(f"n{i:02}", 1, 60.0 - i) for i in range(40)]
    scheduler = Scheduler([fit("wide", 2, 20.25), *narrow], [node(cpus=2)])
    order = simulate(scheduler, lambda task: task.seconds).order
    # By share x time 20 narrow ones go before it (60 to 41 s on half the node, 20.25 s on all of it).
    assert set(order[:20]) == {f"n{i:02}" for i in range(20)}
    assert 20 < order.index("wide") <= 20 + PATIENCE + 1


# Where the time went.


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


# Properties of every run, simulated.


class Simulated:
    def __init__(self):
        self.order, self.spans, self.makespan = [], [], 0.0


def simulate(scheduler, seconds, outcome=lambda task: OK):
    """Runs the schedule on a clock of its own; a block of measurements takes the sum of its parts."""
    clock, ends, count, run = 0.0, [], itertools.count(), Simulated()
    for key, (task, where) in scheduler.running.items():
        heapq.heappush(ends, (seconds(task), next(count), (key,)))
        run.spans.append((where.name, task, 0.0, seconds(task)))
    while scheduler.num_waiting or scheduler.running:
        for start in scheduler.start():
            total = sum(seconds(task) for task in start.tasks)
            heapq.heappush(ends, (clock + total, next(count), tuple(task.key for task in start.tasks)))
            run.order += [task.key for task in start.tasks]
            run.spans += [(start.node.name, task, clock, clock + total) for task in start.tasks]
        assert ends, f"nothing runs and nothing starts, but {scheduler.num_waiting} wait"
        clock, _, keys = heapq.heappop(ends)
        for key in keys:
            scheduler.ended(key, outcome(scheduler.running[key][0]))
    run.makespan = clock
    return run


NODES = st.lists(
    st.builds(
        node,
        cpus=st.integers(1, 4),
        memory=st.sampled_from([4 * GIB, 8 * GIB]),
        gpus=st.integers(0, 2),
        vram=st.just(16 * GIB),
        key=st.sampled_from("xy"),
    ),
    min_size=1,
    max_size=4,
).map(lambda nodes: [replace(each, id=f"n{i}", name=f"n{i}") for i, each in enumerate(nodes)])


@st.composite
def plans(draw):
    """Nodes, and tasks each of which some node can run: fits, most followed by a measurement."""
    nodes = draw(NODES)
    tasks = []
    for i in range(draw(st.integers(1, 14))):
        cuda = draw(st.booleans()) and any(n.num_gpus for n in nodes)
        packed = fit(
            f"f{i}",
            draw(st.integers(1, 4)),
            draw(st.floats(0.1, 50)),
            draw(st.sampled_from([0, GIB, 5 * GIB])),
            draw(st.sampled_from([3 * GIB, 6 * GIB, 12 * GIB, 20 * GIB])) if cuda else 0,
            "cuda" if cuda else "cpu",
            draw(st.sampled_from([None, GIB])),
        )
        if impossible([packed], nodes):
            continue
        tasks.append(packed)
        if draw(st.booleans()):
            machine = draw(st.sampled_from([n.machine_key for n in nodes]))
            tasks.append(measurement(f"m{i}", f"f{i}", draw(st.floats(0.1, 20)), machine))
    return nodes, tasks, draw(st.sampled_from([None, 1, 2, 4]))


def overlapping(spans):
    """Every moment at which something starts, with all tasks that run then on that node."""
    for where, _, begin, _ in spans:
        yield where, [task for name, task, b, e in spans if name == where and b <= begin < e]


@given(plans())
def test_every_task_runs_once_and_a_measurement_after_its_fit(plan):
    nodes, tasks, drain_at = plan
    run = simulate(Scheduler(tasks, nodes, drain_at=drain_at), lambda task: task.seconds)
    assert sorted(run.order) == sorted(task.key for task in tasks)
    begin = {task.key: b for _, task, b, _ in run.spans}
    end = {task.key: e for _, task, _, e in run.spans}
    assert all(begin[task.key] >= end[task.after] for task in tasks if task.after)


@given(plans())
def test_no_node_is_ever_given_more_than_it_has(plan):
    nodes, tasks, drain_at = plan
    by_name = {each.name: each for each in nodes}
    run = simulate(Scheduler(tasks, nodes, drain_at=drain_at), lambda task: task.seconds)
    for where, together in overlapping(run.spans):
        packed, has = [task.need for task in together if not task.exclusive], by_name[where]
        assert sum(need.num_cpus for need in packed) <= has.num_cpus
        assert sum(need.memory_bytes for need in packed) <= has.memory_bytes
        assert sum(need.gpus_on(has) for need in packed) <= has.num_gpus + 1e-9
        assert all(task.need.lacks(has) is None for task in together)


@given(plans())
def test_nothing_packed_runs_beside_a_measurement_and_only_one_block_of_them_does(plan):
    nodes, tasks, drain_at = plan
    run = simulate(Scheduler(tasks, nodes, drain_at=drain_at), lambda task: task.seconds)
    for _, together in overlapping(run.spans):
        if any(task.exclusive for task in together):
            assert all(task.exclusive for task in together)
    blocks = {(name, begin, end) for name, task, begin, end in run.spans if task.exclusive}
    for a, b in itertools.combinations(blocks, 2):
        assert a[0] != b[0] or a[2] <= b[1] or b[2] <= a[1], "two blocks on one node"


@given(plans(), st.data())
def test_whatever_fails_each_task_ends_well_or_has_used_up_its_attempts(plan, data):
    nodes, tasks, drain_at = plan
    tries, ended_well = Counter(), set()

    def outcome(task):
        tries[task.key] += 1
        kind = data.draw(
            st.sampled_from(["ok", "ok", "infrastructure", "out of memory", "deadline", "crash", "program error"])
        )
        if kind == "ok":
            ended_well.add(task.key)
        return Outcome(kind)

    simulate(Scheduler(tasks, nodes, drain_at=drain_at), lambda task: task.seconds, outcome)
    assert max(tries.values(), default=0) <= 1 + sum(MAX_RETRIES.values())
    for task in tasks:
        if task.after and task.after not in ended_well:
            assert task.key not in tries, "a measurement without its fit"


@given(st.lists(st.integers(2, 3), min_size=1, max_size=2), st.data())
def test_no_task_is_overtaken_for_ever(cpus, data):
    """Once all longer ones have started and 8 shorter ones after that, it starts before any of them could run twice."""
    nodes = [node(f"n{i}", number) for i, number in enumerate(cpus)]
    openers = [fit(f"o{i}", 1, data.draw(st.floats(5, 10))) for i in range(sum(cpus))]
    wide = [fit(f"w{i}", data.draw(st.integers(2, max(cpus))), data.draw(st.floats(2, 4))) for i in range(2)]
    lengths = data.draw(st.lists(st.floats(1, 2), min_size=8, max_size=8))
    narrow = [fit(f"n{i:02}", 1, lengths[i % 8] + i / 1e4) for i in range(80)]
    packed = [*openers, *wide, *narrow]
    scheduler = Scheduler(packed, nodes)
    order = [task.key for task in scheduler.waiting]
    run = simulate(scheduler, lambda task: task.seconds)
    begin = {task.key: at for _, task, at, _ in run.spans}
    longest = max(task.seconds for task in packed)
    for rank, key in enumerate(order):
        first = max((begin[each] for each in order[:rank]), default=0.0)
        overtaking = sorted(begin[each] for each in order[rank + 1 :] if first < begin[each] < begin[key])
        if len(overtaking) >= PATIENCE:
            assert begin[key] <= overtaking[PATIENCE - 1] + longest + 1e-9


@given(plans(), st.data())
def test_the_shares_of_an_account_add_up_to_all_there_was(plan, data):
    nodes, tasks, drain_at = plan
    assume(tasks)
    scheduler, ledger = Scheduler(tasks, nodes, drain_at=drain_at), Ledger(nodes)
    clock, ends, count = 0.0, [], itertools.count()
    while scheduler.num_waiting or scheduler.running:
        for start in scheduler.start():
            took = sum(task.seconds for task in start.tasks)
            heapq.heappush(ends, (clock + took, next(count), start, took))
        ledger.idle(clock, scheduler.idle())
        clock, _, start, took = heapq.heappop(ends)
        for task in start.tasks:
            kind = data.draw(st.sampled_from(["ok", "deadline"]))
            scheduler.ended(task.key, Outcome(kind))
            share = took / len(start.tasks)
            ledger.ended(task, 0.7 * share, well=kind == "ok", waited_s=0.3 * share)
    account = ledger.closed(clock)
    shares = [account.efficiency, account.wasted, account.starting, *account.idle.values()]
    # A measurement is taken to hold the smallest node it could be on, so the sum may stay below, never above.
    assert sum(shares) <= 1 + 1e-9 and account.lower_bound_s <= account.makespan_s
    if len({each.num_cpus for each in nodes}) == 1:
        assert sum(shares) == pytest.approx(1)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=25), st.integers(1, 5))
def test_equal_tasks_on_one_node_keep_grahams_bound_for_longest_first(seconds, cpus):
    tasks = [fit(f"f{i}", 1, s) for i, s in enumerate(seconds)]
    run = simulate(Scheduler(tasks, [node(cpus=cpus)]), lambda task: task.seconds)
    bound = lower_bound_s([Spent(task, task.seconds) for task in tasks], Capacity.of([node(cpus=cpus)]))
    assert bound == pytest.approx(max(sum(seconds) / cpus, max(seconds)))
    # List scheduling: total/m + (1 - 1/m) x longest. Graham 1966.
    assert bound - 1e-9 <= run.makespan <= sum(seconds) / cpus + (1 - 1 / cpus) * max(seconds) + 1e-9


@given(plans())
def test_no_run_beats_the_lower_bound(plan):
    nodes, tasks, drain_at = plan
    run = simulate(Scheduler(tasks, nodes, drain_at=drain_at), lambda task: task.seconds)
    spent = [Spent(task, task.seconds) for task in tasks]
    assert lower_bound_s(spent, Capacity.of(nodes)) <= run.makespan * (1 + 1e-9)
    assert 0 <= efficiency(spent, Capacity.of(nodes), run.makespan) <= 1 + 1e-9 if tasks else True


def test_the_lower_bound_by_hand():
    nodes = [node("n1", 2, gpus=1, vram=16 * GIB), node("n2", 2)]
    spent = [Spent(fit(f"f{i}"), 10.0) for i in range(6)]
    assert lower_bound_s(spent, Capacity.of(nodes)) == 15.0  # 60 CPU seconds on 4 CPUs
    spent.append(Spent(fit("g", vram=10 * GIB, device="cuda"), 40.0))
    assert lower_bound_s(spent, Capacity.of(nodes)) == 40.0  # the one GPU is held for 40 s
    spent.append(Spent(measurement("m", "g"), 5.0))
    assert lower_bound_s(spent, Capacity.of(nodes)) == 45.0  # and the measurement follows it
    alone = [Spent(fit("f"), 10.0), Spent(measurement("m"), 30.0)]
    assert lower_bound_s(alone, Capacity.of([node(cpus=2)])) == 35.0  # 10/2 packed, then 30 with the node to itself
    assert efficiency(alone, Capacity.of([node(cpus=2)]), 40.0) == pytest.approx(35 / 40)
