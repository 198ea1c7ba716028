"""A driver killed at random moments: the same command finishes the rest, and the store is that of an undisturbed run."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import moodbench

from moodbench.store import Store

pytestmark = pytest.mark.integration
NUM_KILLS = int(os.environ.get("MOODBENCH_FAULTS", "5"))
COMMAND = ["run", "--models", "tfidf-logreg", "vader", "--datasets", "icwsm-tweets", "--protocol", "short"]


def start(folder: Path, config: Path) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    arguments = [*COMMAND, "--config", str(config), "--executor", "inline"]
    return subprocess.Popen(
        [sys.executable, "-m", "moodbench", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def assert_files_are_as_recorded(store: Store) -> None:
    for kind in ("fits", "evaluations", "measurements"):
        for files in store.records(kind)["files"]:
            for file in files:
                content = (Path(store.uri) / file["path"]).read_bytes()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


def test_killed_runs_leave_the_store_of_an_undisturbed_one(tmp_path, config):
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir()
    rough.mkdir()
    began = time.monotonic()
    assert start(calm, config).wait(timeout=300) == 0
    length = time.monotonic() - began
    undisturbed, store = Store.open(calm / "results"), Store.open(rough / "results")

    rng, num_records = random.Random(20140601), []
    for _ in range(NUM_KILLS):
        process = start(rough, config)
        try:
            process.wait(timeout=rng.uniform(0.2, 1.0) * length)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert_files_are_as_recorded(store)
        num_records.append(sum(len(store.ids(kind)) for kind in ("fits", "evaluations", "measurements")))
    moodbench(*COMMAND, "--config", config, "--executor", "inline", cwd=rough)

    assert num_records == sorted(num_records), "what was committed once is never lost"
    assert_files_are_as_recorded(store)
    for kind in ("fits", "evaluations", "measurements"):
        assert store.ids(kind) == undisturbed.ids(kind)
        assert len(store.records(kind)) == 2, "nothing is doubled"
    for evaluation_id in store.ids("evaluations"):
        a, b = (s.predictions([evaluation_id]).set_index("example_id").sort_index() for s in (store, undisturbed))
        np.testing.assert_array_equal(np.stack(a["logits"]), np.stack(b["logits"]))
