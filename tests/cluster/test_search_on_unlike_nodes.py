"""A search over two unlike nodes: each trial asks for what it is estimated to need, and goes where that is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
TIGHT_BYTES = 1_800_000_000
"""Between what MiniLM-L3 is estimated to need with batches of 8 and of 64 texts; the test checks that it is."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k != "PYTHONDONTWRITEBYTECODE"}
    script = Path(__file__).with_name("tune_on_unlike_nodes.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("tuned")), str(TIGHT_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_what_a_trial_asks_for_follows_its_configuration(seen):
    assert seen["needs"]["8"] < 0.85 * TIGHT_BYTES < seen["needs"]["64"]
    assert seen["may"] == {"8": ["roomy", "tight"], "64": ["roomy"]}


def test_both_kinds_of_node_ran_trials_and_none_ran_where_it_has_no_room(seen):
    assert seen["num_trials"] == 4 and {status for _, _, status in seen["ran"]} == {"finished"}
    assert {node for _, node, _ in seen["ran"]} == {"tight", "roomy"}
    assert {node for size, node, _ in seen["ran"] if size == 64} == {"roomy"}


def test_nothing_of_ray_tune_is_left_in_the_store(seen):
    assert [name for name in seen["staging"] if "checkpoint" not in name] == []
