"""What a killed run left is gone after the next one that succeeds, even if it outlived the start of that run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import moodbench
from moodbench.runtime.ray_local import DRIVER

pytestmark = pytest.mark.integration
WORKER = (
    "import sys, time\nfrom moodbench.store import Store\nwith Store.open(sys.argv[1]).attempt() as attempt:\n"
    "    (attempt.folder / 'half').write_text('x')\n    print(flush=True)\n    time.sleep(600)\n"
)


def test_a_worker_of_a_killed_run_that_ends_during_the_next_run_leaves_nothing(tmp_path):
    store = tmp_path / "results"
    (store / "fits").mkdir(parents=True)
    mark = os.environ | {DRIVER: "999999999 1.0"}
    with (
        subprocess.Popen([sys.executable, "-c", WORKER, str(store)], stdout=subprocess.PIPE) as worker,
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=mark) as agent,
    ):
        worker.stdout.readline()
        seen = []

        def listen(event):
            seen.append(event["event"])
            if len(seen) == 3:
                worker.kill()
                worker.wait()

        summary = moodbench.run(
            models="majority", datasets="icwsm-tweets", max_train_examples=60, protocol="quick", executor="inline",
            store=store, listen=listen,
        )  # fmt: skip
        assert summary.num_committed and len(seen) >= 3
        assert [p.name for p in Path(store, "staging").iterdir()] == []
        assert agent.wait(10) == -9
        worker.kill()
