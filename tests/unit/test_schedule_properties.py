"""Properties of the policy on a simulated cluster, whatever ends first."""

import heapq
import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from schedule_tasks import fit, measurement, node, simulate

from moodbench.hardware import GIB
from moodbench.runtime.process import Outcome
from moodbench.schedule import Scheduler
from moodbench.schedule.accounting import Capacity, Ledger, Spent, efficiency, lower_bound_s
from moodbench.schedule.policy import PATIENCE
from moodbench.schedule.resources import MAX_RETRIES, impossible

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
    for where, shared_worker in overlapping(run.spans):
        packed, has = [task.need for task in shared_worker if not task.exclusive], by_name[where]
        assert sum(need.num_cpus for need in packed) <= has.num_cpus
        assert sum(need.memory_bytes for need in packed) <= has.memory_bytes
        assert sum(need.gpus_on(has) for need in packed) <= has.num_gpus + 1e-9
        assert all(task.need.lacks(has) is None for task in shared_worker)


@given(plans())
def test_nothing_packed_runs_beside_a_measurement_and_only_one_block_of_them_does(plan):
    nodes, tasks, drain_at = plan
    run = simulate(Scheduler(tasks, nodes, drain_at=drain_at), lambda task: task.seconds)
    for _, shared_worker in overlapping(run.spans):
        if any(task.exclusive for task in shared_worker):
            assert all(task.exclusive for task in shared_worker)
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
