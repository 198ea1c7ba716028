"""Clock readings of a process whose threads compute together."""

import hashlib
import threading
import time

import pytest

from moodbench.evaluation.process_clock import RunDelay, cpu_seconds, longest_delay


def test_the_run_delay_of_a_request_is_that_of_the_thread_that_waited_longest():
    before, after = {"1": 1.0, "2": 2.0, "3": 0.5}, {"1": 1.25, "2": 2.75, "4": 9.0}
    assert longest_delay(before, after) == 0.75, "3 has ended, 4 began in between"
    assert longest_delay({}, {}) is None


def test_each_thread_is_read_alone():
    delays = RunDelay()
    if not delays.available:
        assert delays.by_thread() == {}
        return
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    before = set(delays.by_thread())
    delays.refresh()
    with_it = set(delays.by_thread())
    assert with_it - before == {str(thread.native_id)}
    stop.set()
    thread.join()
    deadline = time.monotonic() + 5
    while str(thread.native_id) in delays.by_thread() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(delays.by_thread()) == before


def test_cpu_time_is_that_of_the_thread_that_answers():
    """Two threads hash at the same time, outside the interpreter's lock; their sum would be about twice the work of one."""
    work = bytes(2**25)
    other = threading.Thread(target=lambda: [hashlib.sha256(work) for _ in range(4)])
    own, summed = cpu_seconds(), time.process_time()
    other.start()
    hashlib.sha256(work)
    other.join()
    own, summed = cpu_seconds() - own, time.process_time() - summed
    assert own == pytest.approx(summed / 5, rel=0.5), "one of five pieces of work"
