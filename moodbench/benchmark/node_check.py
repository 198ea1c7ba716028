"""Check that a node runs on itself (`python -m moodbench.benchmark.node_check`): hardware, versions, the store."""

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

LIBRARIES = ("moodbench", "torch", "transformers", "peft", "tokenizers", "scikit-learn", "numpy")


def check(store: str, marker: str | None, secret: str) -> dict[str, Any]:
    """Return the event `node`: hardware, versions, and in `store` what is wrong with the store here, or None."""
    return {
        "event": "node",
        "hardware": asdict(hardware()),
        "versions": versions(),
        "store": _fault(store, marker, secret),
    }


def versions() -> dict[str, str | None]:
    """Return the versions that must be equal on every node, because results depend on them.

    They are those of the program, Python, and the libraries that compute.
    """
    major, minor, _ = platform.python_version_tuple()
    found = {name: library_version(name) for name in LIBRARIES}
    # The part after a plus names the GPU that a build is for, which may differ between nodes.
    plain = {name: version and version.partition("+")[0] for name, version in found.items()}
    return plain | {"python": f"{major}.{minor}"}


def _fault(store: str, marker: str | None, secret: str) -> str | None:
    try:
        if marker is not None and not Path(marker).is_file():
            return "does not see the store's folder, or sees a different one at the same path"
        if marker is not None and Path(marker).read_text("utf-8") != secret:
            return "sees a different folder at the store's path"
        opened = Store.open(store)
        opened.check_writable()
        opened.ids("fits")
    except (MoodBenchError, OSError) as error:
        return f"cannot use the store: {error}"
    return None


if __name__ == "__main__":
    print(json.dumps(check(**json.loads(sys.stdin.read()))), flush=True)  # noqa: T201 - the driver reads stdout
