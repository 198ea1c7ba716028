"""Processes of a Ray whose driver was killed are ended, those of a living driver are not."""

import os
import subprocess
import sys

import psutil
import pytest

from moodbench.runtime.ray_local import DRIVER, end_abandoned


@pytest.fixture
def agent():
    """Start a process that carries this mark, as all that a Ray starts does."""
    started = []

    def start(mark):
        environment = os.environ | ({} if mark is None else {DRIVER: mark})
        started.append(subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
                                        env=environment, stdout=subprocess.PIPE))  # fmt: skip
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_only_the_agents_of_a_dead_driver_are_ended(agent):
    driver = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = f"{driver.pid} {psutil.Process(driver.pid).create_time()}"
    of_this, of_driver, of_nobody = agent(mark), agent(f"{os.getpid()} {psutil.Process().create_time()}"), agent(None)
    assert end_abandoned() == []
    driver.kill()
    os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has asked for its exit code yet
    assert end_abandoned() == [of_this.pid]
    driver.stdin.close()
    driver.wait()
    assert not psutil.pid_exists(of_this.pid)
    assert of_driver.poll() is None and of_nobody.poll() is None


def test_a_process_that_got_the_number_of_the_driver_later_is_not_the_driver(agent):
    left = agent(f"{os.getpid()} 1.0")
    assert end_abandoned() == [left.pid]
