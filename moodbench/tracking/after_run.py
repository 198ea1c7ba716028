"""Tracking at the end of a run, in a separate process.

MLflow takes seconds and 170 MiB, which must not affect a measurement.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.tracking.tracked import is_tracked

SWITCH = "MOODBENCH_TRACKING"
TIMEOUT_S = 60.0


def track(store: Store, *, has_new: bool) -> None:
    """Log the records of `store` to MLflow and TensorBoard, and warn once if that fails.

    MOODBENCH_TRACKING=off disables tracking. No process is started if all records are tracked already; records of a
    killed run are tracked at the end of the next run. A store that is not a local folder is tracked if the run
    `has_new` records.
    """
    if os.environ.get(SWITCH, "on").lower() in ("off", "0", "false"):
        return
    local = isinstance(store.location, LocalLocation)
    if is_tracked(store) if local else not has_new:
        return
    command = [sys.executable, "-m", "moodbench.tracking", store.uri]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        failed = done.returncode != 0
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        failed, reason = True, f"no end after {TIMEOUT_S:.0f} s"
    if failed:
        logging.getLogger(__name__).warning(
            "tracking: %s. The results are complete; `moodbench track sync` tries again, %s=off leaves it out",
            reason,
            SWITCH,
        )
