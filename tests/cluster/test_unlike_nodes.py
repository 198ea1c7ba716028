"""Nodes of unlike kinds under one Ray on this machine: leases, GPU shares, deadlines and lost nodes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def seen():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k != "PYTHONDONTWRITEBYTECODE"}
    script = Path(__file__).with_name("unlike_nodes.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=480, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def span(seen, key):
    events = seen["told"][key]
    return events[0]["begin"], events[-1]["end"]


@pytest.mark.parametrize("node", ["a10g", "a100"])
def test_a_measurement_overlaps_nothing_even_if_it_is_asked_for_beside_a_fit(seen, node):
    packed, measured = span(seen, f"packed on {node}"), span(seen, f"measured on {node}")
    assert packed[1] <= measured[0]
    assert seen["outcomes"][f"measured on {node}"][0] == "ok"


def test_nodes_work_side_by_side(seen):
    a, b = span(seen, "packed on a10g"), span(seen, "packed on a100")
    assert a[0] < b[1] and b[0] < a[1]


def test_how_a_measurement_was_alone_is_known_per_node(seen):
    assert seen["isolation"] == {"a10g": "resource", "a100": "pg"}


def test_the_records_of_a_node_without_the_lease_say_that_a_placement_group_kept_it_free(seen):
    assert seen["recorded"] == ["pg", "pg"], "majority and the entry that the score is defined by"


def test_two_halves_share_one_gpu_and_a_measurement_has_all(seen):
    assert seen["told"]["half 1"][0]["gpus"] == seen["told"]["half 2"][0]["gpus"] == "0"
    assert seen["told"]["measured on a100"][0]["gpus"] == "0,1"
    assert seen["told"]["measured on a10g"][0]["gpus"] == "0"


def test_a_fit_too_big_for_one_gpu_is_given_two_of_one_node_and_nothing_shares_them(seen):
    assert seen["told"]["spread over two"][0]["gpus"] == "0,1"
    assert seen["outcomes"]["spread over two"][0] == "ok"
    assert span(seen, "half beside it")[0] >= span(seen, "spread over two")[1]


def test_threads_are_set_and_not_left_to_ray(seen):
    assert seen["told"]["measured on a10g"][0]["threads"] == "2"
    assert seen["told"]["packed on a10g"][0]["threads"] == "1"


def test_commands_wait_no_longer_for_a_processor_than_what_started_them(seen):
    assert seen["told"]["packed on a10g"][0]["nice"] == os.nice(0)


def test_each_kind_of_end_is_told_apart(seen):
    outcomes = {key: kind for key, (kind, _) in seen["outcomes"].items()}
    assert outcomes["late"] == "deadline"
    assert outcomes["dies"] == "infrastructure" and "signal 9" in seen["outcomes"]["dies"][1]
    assert outcomes["lost"] == "infrastructure", seen["outcomes"]["lost"]
