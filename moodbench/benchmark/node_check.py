"""What a node finds when it looks at itself (`python -m moodbench.benchmark.node_check`): hardware, versions, the store."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moodbench.errors import MoodBenchError
from moodbench.hardware import hardware, library_version
from moodbench.store import Store


def check(store: str, marker: str | None, secret: str) -> dict[str, Any]:
    """The event `node`: its hardware, its versions, and in `store` what is wrong with that folder here, or None."""
    return {
        "event": "node",
        "hardware": asdict(hardware()),
        "moodbench": library_version("moodbench"),
        "python": platform.python_version(),
        "store": _fault(store, marker, secret),
    }


def _fault(store: str, marker: str | None, secret: str) -> str | None:
    try:
        if marker is not None and not Path(marker).is_file():
            return "does not see the store's folder, or sees another one of that name"
        if marker is not None and Path(marker).read_text("utf-8") != secret:
            return "sees another folder of the store's name"
        opened = Store.open(store)
        opened.check_writable()
        opened.ids("fits")
    except (MoodBenchError, OSError) as error:
        return f"cannot use the store: {error}"
    return None


if __name__ == "__main__":
    print(json.dumps(check(**json.loads(sys.stdin.read()))), flush=True)  # noqa: T201 - events go to standard output
