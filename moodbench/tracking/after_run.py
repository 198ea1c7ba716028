"""Tracking at the end of a run, in a process of its own: MLflow takes seconds and 170 MiB, which no measurement may feel."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

SWITCH = "MOODBENCH_TRACKING"
TIMEOUT_S = 60.0


def track(store: str) -> None:
    """Nothing; logs what `store` holds, and warns once when that fails. MOODBENCH_TRACKING=off leaves it out."""
    if os.environ.get(SWITCH, "on").lower() in ("off", "0", "false"):
        return
    command = [sys.executable, "-m", "moodbench.tracking", store]
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
