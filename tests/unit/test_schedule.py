from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.schedule import MAX_INFRASTRUCTURE_RETRIES, Capacity, may_retry, startable


@dataclass(frozen=True)
class Job:
    number: int
    num_cpus: int
    exclusive: bool = False


jobs = st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=9).map(
    lambda drawn: [Job(number, cpus, exclusive) for number, (cpus, exclusive) in enumerate(drawn)]
)
capacities = st.integers(1, 4).map(Capacity)


def numbers(chosen):
    return [job.number for job in chosen]


TABLE = [
    # waiting (cpus, "m" for a measurement), running, of 4 processors, what starts
    ("1 1 1", "", [0, 1, 2]),
    ("1 1 1 1 1", "", [0, 1, 2, 3]),
    ("2 3 2", "", [0, 2]),
    ("9 1", "", [0]),
    ("9 1", "1", [1]),
    ("1 1", "4", []),
    ("1 1", "9", []),
    ("m4 1", "", [1]),
    ("m4 1", "4", []),
    ("m4 m4", "", [0]),
    ("m4 m4", "1", []),
    ("m9", "", [0]),
    ("1 m4", "m1", []),
    ("", "", []),
]


def parsed(text):
    return [Job(i, int(word.lstrip("m")), word.startswith("m")) for i, word in enumerate(text.split())]


@pytest.mark.parametrize(("waiting", "running", "start"), TABLE)
def test_what_starts_next_is_that_worked_out_by_hand(waiting, running, start):
    assert numbers(startable(parsed(waiting), parsed(running), Capacity(4))) == start


def simulated(waiting, capacity, ends):
    """Every state (started, running beside them, waiting then) of a run in which `ends` picks the job that ends."""
    waiting, running, states = list(waiting), [], []
    while waiting or running:
        chosen = startable(waiting, running, capacity)
        states.append((chosen, list(running), list(waiting)))
        waiting = [job for job in waiting if job not in chosen]
        running += chosen
        assert running, "nothing runs and nothing starts"
        running.remove(ends(running))
    return states


@given(jobs, capacities, st.data())
def test_every_job_runs_once_whatever_ends_first(waiting, capacity, data):
    states = simulated(waiting, capacity, lambda running: data.draw(st.sampled_from(running)))
    started = [job.number for chosen, _, _ in states for job in chosen]
    assert sorted(started) == numbers(waiting)


@given(jobs, capacities, st.data())
def test_processors_are_never_overcommitted_but_by_one_job_alone(waiting, capacity, data):
    for chosen, running, _ in simulated(waiting, capacity, lambda r: data.draw(st.sampled_from(r))):
        together = [*running, *chosen]
        assert sum(job.num_cpus for job in together) <= capacity.num_cpus or len(together) == 1


@given(jobs, capacities, st.data())
def test_a_measurement_is_always_alone_and_comes_only_when_no_packed_job_waits(waiting, capacity, data):
    for chosen, running, still in simulated(waiting, capacity, lambda r: data.draw(st.sampled_from(r))):
        together = [*running, *chosen]
        assert len(together) == 1 or not any(job.exclusive for job in together)
        if any(job.exclusive for job in chosen):
            assert all(job.exclusive for job in still)


@given(jobs, capacities, st.data())
def test_what_starts_keeps_the_order_and_no_processor_is_left_idle_that_a_packed_job_could_use(waiting, capacity, data):
    for chosen, running, still in simulated(waiting, capacity, lambda r: data.draw(st.sampled_from(r))):
        assert chosen == [job for job in still if job in chosen]
        left = capacity.num_cpus - sum(job.num_cpus for job in (*running, *chosen))
        passed = [job for job in still if job not in chosen and not job.exclusive]
        assert any(job.exclusive for job in running) or all(job.num_cpus > left for job in passed)


@pytest.mark.parametrize(
    ("outcome", "retries"),
    [("infrastructure", MAX_INFRASTRUCTURE_RETRIES), ("ok", 0), ("program error", 0), ("out of memory", 0)],
)
def test_only_the_machines_faults_are_tried_again_and_not_for_ever(outcome, retries):
    attempts = 1
    while may_retry(outcome, attempts):
        attempts += 1
    assert attempts == 1 + retries
    assert MAX_INFRASTRUCTURE_RETRIES == 2
